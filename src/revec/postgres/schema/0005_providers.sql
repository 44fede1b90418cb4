-- Providers: what they may be asked, what they were asked, what it cost, and how they are.

-- One row per model that was ever asked. Rests after a failure; then one call at a time probes it.
CREATE TABLE revec.provider (
    model         text PRIMARY KEY,
    failures      integer NOT NULL DEFAULT 0,  -- since it last answered
    rest          float8 NOT NULL DEFAULT 0,   -- seconds of the last rest
    resting_until timestamptz,                 -- NULL: well; past: one call may probe
    probe_until   timestamptz,                 -- a probe is under way
    trouble       text,                        -- auth, quota, rate, server, timeout
    why           text,
    since         timestamptz                  -- of the first of these failures
);

-- A bucket for each thing that a provider counts: what it holds, all that was ever admitted, and what
-- the provider last said was left, with the moment and the count of that request.
CREATE TABLE revec.quota (
    model      text NOT NULL,  -- or 'collection:' and its id, for documents (revec.throttle)
    resource   text NOT NULL CHECK (resource IN ('requests', 'tokens', 'documents')),
    declared   float8,                     -- a minute, by a person
    capacity   float8 NOT NULL CHECK (capacity > 0),  -- of the full bucket: a minute's worth
    rate       float8 NOT NULL CHECK (rate > 0),  -- what flows back to us in a second, as last estimated
    level      float8 NOT NULL,            -- in the bucket at `at`
    at         timestamptz NOT NULL,
    spent      float8 NOT NULL DEFAULT 0,  -- all that was ever admitted
    said       float8,                     -- NULL: the provider says nothing
    said_at    timestamptz,
    said_spent float8 NOT NULL DEFAULT 0,
    fullest    float8 NOT NULL DEFAULT 0,  -- what the bucket ever held: some hold less than a minute's worth
    slowed_at  timestamptz,                -- when the rate was last changed for want of its word
    PRIMARY KEY (model, resource)
);

-- The ledger: every call that was let through, answered or not. What was sent and never answered may
-- have been billed, and counts. No text, no key.
CREATE TABLE revec.call (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model          text NOT NULL,
    index_id       integer,
    migration_id   integer,
    lane           smallint NOT NULL,
    at             timestamptz NOT NULL,
    inputs         integer NOT NULL,
    tokens         bigint NOT NULL,     -- as counted before; as billed once that is known
    price          numeric,             -- US dollars per million tokens; NULL: nobody knows
    tenants        text[] NOT NULL,
    shares         bigint[] NOT NULL,   -- tokens of each tenant, as counted before
    spent_tokens   float8 NOT NULL,     -- the bucket's `spent` just after this call
    spent_requests float8 NOT NULL,
    probe          boolean NOT NULL,
    outcome        text,                -- ok, refused, invalid, or a trouble; NULL: not yet, or never
    answered_at    timestamptz
);
CREATE INDEX call_at ON revec.call (at);
CREATE INDEX call_of_migration ON revec.call (migration_id) WHERE migration_id IS NOT NULL;

SELECT revec.protect('revec.provider', 'private'), revec.protect('revec.quota', 'private'),
       revec.protect('revec.call', 'private');

-- What a bucket holds at `moment`.
CREATE FUNCTION revec.bucket(q revec.quota, moment timestamptz) RETURNS float8
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT least(q.capacity, q.level + q.rate * greatest(0, extract(epoch FROM moment - q.at)))
$$;

-- Seconds until the model's buckets hold one request and so many tokens and still keep `reserve` (a
-- share of each): 0 = now. More than a bucket can hold waits for a full one.
CREATE FUNCTION revec.until_affordable(of_model text, want_tokens float8, reserve float8, moment timestamptz)
RETURNS float8 LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(greatest(0, (least(w.want + reserve * q.capacity, q.capacity * 0.999)
                                     - revec.bucket(q, moment)) / q.rate)), 0)
      FROM revec.quota q,
           LATERAL (SELECT CASE q.resource WHEN 'tokens' THEN want_tokens ELSE 1 END) AS w (want)
     WHERE q.model = of_model
$$;

-- May this call go? It is written down before it leaves. `moment` is the clock: a simulation has its own.
-- Lane 3 goes whatever is known of the provider's health: a proof or a probe must see for itself.
CREATE FUNCTION revec.admit(
    of_model text, of_index integer, in_lane smallint, n_inputs integer, n_tokens bigint,
    of_tenants text[], of_shares bigint[], at_price numeric, reserve float8, moment timestamptz,
    OUT call bigint, OUT wait float8, OUT next_in float8, OUT denied text, OUT why text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p revec.provider;
    m revec.migration;
    probing boolean;
BEGIN
    INSERT INTO revec.provider (model) VALUES (of_model) ON CONFLICT DO NOTHING;
    SELECT * INTO p FROM revec.provider WHERE model = of_model FOR UPDATE;
    moment := coalesce(moment, clock_timestamp());  -- after the lock: in the order of the calls
    wait := 0; next_in := 0;
    IF in_lane <> 3 AND p.resting_until > moment THEN
        wait := extract(epoch FROM p.resting_until - moment); denied := 'resting'; why := p.why;
        RETURN;
    END IF;
    probing := p.resting_until IS NOT NULL;
    IF in_lane <> 3 AND probing AND p.probe_until > moment THEN
        wait := 0.2; denied := 'probing'; why := p.why;
        RETURN;
    END IF;
    wait := revec.until_affordable(of_model, n_tokens, reserve, moment);
    IF wait > 0 THEN
        denied := 'quota'; why := 'the provider''s limit';
        RETURN;
    END IF;
    SELECT * INTO m FROM revec.migration WHERE new_index = of_index
       AND state NOT IN ('finished', 'aborted') ORDER BY id DESC LIMIT 1;
    IF in_lane IN (1, 2) AND m.budget IS NOT NULL AND m.spent + n_tokens * coalesce(at_price, 0) / 1e6 > m.budget THEN
        UPDATE revec.migration SET paused_why = 'its budget of $' || budget || ' does not pay for the next '
               'pack ($' || round(spent, 4) || ' is spent)' WHERE id = m.id AND paused_why IS NULL;
        denied := 'budget'; why := 'the migration''s budget is spent';
        RETURN;
    END IF;
    IF in_lane <> 3 AND revec.charge(of_index, of_tenants, of_shares, at_price, 1) THEN
        denied := 'budget'; why := 'a tenant''s budget is spent';
        RETURN;
    END IF;
    UPDATE revec.quota q
       SET level = revec.bucket(q, moment) - c.cost, at = greatest(q.at, moment), spent = q.spent + c.cost
      FROM (VALUES ('tokens', n_tokens), ('requests', 1)) AS c (resource, cost)
     WHERE q.model = of_model AND q.resource = c.resource;
    IF probing THEN
        UPDATE revec.provider SET probe_until = moment + interval '2 minutes' WHERE model = of_model;
    END IF;
    UPDATE revec.migration SET spent = spent + n_tokens * at_price / 1e6 WHERE id = m.id AND at_price > 0;
    INSERT INTO revec.call (model, index_id, migration_id, lane, at, inputs, tokens, price, tenants, shares,
                            spent_tokens, spent_requests, probe)
    SELECT of_model, of_index, m.id, in_lane, moment, n_inputs, n_tokens, at_price, of_tenants, of_shares,
           coalesce(max(q.spent) FILTER (WHERE q.resource = 'tokens'), 0),
           coalesce(max(q.spent) FILTER (WHERE q.resource = 'requests'), 0), probing
      FROM revec.quota q WHERE q.model = of_model
    RETURNING id INTO call;
    next_in := revec.until_affordable(of_model, n_tokens, reserve, moment);
END $$;

-- Charge tenants that have a budget for their shares of a call; true, and nothing charged, where one cannot
-- pay: it is paused. The rows are locked in one order, whatever the model.
CREATE FUNCTION revec.charge(of_index integer, of_tenants text[], of_shares bigint[], at_price numeric, part numeric)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    payer record;
    broke boolean := false;
BEGIN
    IF coalesce(at_price, 0) = 0 OR part = 0 THEN
        RETURN false;
    END IF;
    FOR payer IN
        SELECT t.collection_id, t.tenant, t.spent + s.share * part * at_price / 1e6 > t.budget AS broke
          FROM revec.index i JOIN revec.tenant t ON t.collection_id = i.collection_id
               JOIN unnest(of_tenants, of_shares) AS s (tenant, share) ON s.tenant = t.tenant
         WHERE i.id = of_index AND t.budget IS NOT NULL ORDER BY t.tenant FOR UPDATE OF t
    LOOP
        IF payer.broke AND part > 0 THEN
            UPDATE revec.tenant SET paused_why = 'its budget of $' || budget || ' does not pay for the next '
                   'pack ($' || round(spent, 4) || ' is spent)'
             WHERE collection_id = payer.collection_id AND tenant = payer.tenant AND paused_why IS NULL;
            broke := true;
        END IF;
    END LOOP;
    IF NOT broke THEN
        UPDATE revec.tenant t SET spent = greatest(0, t.spent + s.share * part * at_price / 1e6)
          FROM revec.index i, unnest(of_tenants, of_shares) AS s (tenant, share)
         WHERE i.id = of_index AND t.collection_id = i.collection_id AND t.tenant = s.tenant
           AND t.budget IS NOT NULL;
    END IF;
    RETURN broke;
END $$;

-- What came of a call. `said` is what its headers told of the limits:
-- {"tokens": {"limit": a minute, "remaining": now}, "requests": {…}}, as far as they did.
CREATE FUNCTION revec.report(
    of_call bigint, was text, billed bigint, said jsonb, retry_after float8, sentence text,
    first_rest float8, longest_rest float8, moment timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c revec.call;
    p revec.provider;
    answered boolean := was IN ('ok', 'refused', 'invalid');
    resource text;
BEGIN
    SELECT * INTO c FROM revec.call WHERE id = of_call;
    SELECT * INTO p FROM revec.provider WHERE model = c.model FOR UPDATE;
    moment := coalesce(moment, clock_timestamp());
    -- Refused calls are not billed; what nobody answered may have been.
    billed := CASE WHEN billed IS NOT NULL THEN billed
                   WHEN was IN ('auth', 'quota', 'rate', 'refused') THEN 0 ELSE c.tokens END;
    UPDATE revec.call SET outcome = was, answered_at = moment, tokens = billed WHERE id = of_call;
    IF billed < c.tokens THEN  -- tenants before the migration, as everywhere
        PERFORM revec.charge(c.index_id, c.tenants, c.shares, c.price, billed / c.tokens::numeric - 1);
    END IF;
    UPDATE revec.migration SET spent = spent + (billed - c.tokens) * c.price / 1e6
     WHERE id = c.migration_id AND c.price > 0 AND billed <> c.tokens;
    FOREACH resource IN ARRAY ARRAY['tokens', 'requests'] LOOP
        PERFORM revec.learn(c, resource, (said -> resource ->> 'limit')::float8,
                            (said -> resource ->> 'remaining')::float8, was = 'rate',
                            CASE resource WHEN 'tokens' THEN c.tokens - billed ELSE 0 END, moment);
    END LOOP;
    IF answered THEN
        UPDATE revec.provider
           SET failures = 0, rest = 0, resting_until = NULL, probe_until = NULL, trouble = NULL, why = NULL,
               since = NULL
         WHERE model = c.model AND (failures > 0 OR resting_until IS NOT NULL);
        RETURN;
    END IF;
    -- Calls that were on their way when it began to rest say nothing new: only a probe doubles the rest.
    UPDATE revec.provider
       SET failures = failures + 1, trouble = was, why = sentence, since = coalesce(since, moment),
           rest = r.rest, probe_until = CASE WHEN c.probe THEN NULL ELSE probe_until END,
           resting_until = greatest(resting_until,
                                    moment + make_interval(secs => greatest(retry_after, CASE
                                        WHEN c.probe OR retry_after IS NULL THEN r.rest ELSE first_rest END)))
      FROM (SELECT least(longest_rest, CASE WHEN c.probe THEN greatest(p.rest * 2, first_rest)
                                            ELSE greatest(p.rest, first_rest) END)) AS r (rest)
     WHERE model = c.model;
END $$;

-- Let an answer's headers correct a bucket. What flowed back between two of the provider's words is the
-- rate; it counts in proportion to the time between them (15 s: two thirds of it). A 429 without a word
-- empties the bucket and slows it by a tenth, at most every 5 s; it recovers by a fiftieth a minute.
CREATE FUNCTION revec.learn(
    c revec.call, of_resource text, said_limit float8, said_left float8, was_429 boolean, unbilled float8,
    moment timestamptz)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    q revec.quota;
    full_from float8;
    cost float8 := CASE of_resource WHEN 'tokens' THEN c.tokens ELSE 1 END;
    c_spent float8 := CASE of_resource WHEN 'tokens' THEN c.spent_tokens ELSE c.spent_requests END;
    refused float8 := CASE WHEN was_429 THEN cost ELSE 0 END;  -- it was counted, and never taken
    seconds float8;
BEGIN
    SELECT * INTO q FROM revec.quota WHERE model = c.model AND resource = of_resource;
    IF NOT FOUND THEN
        PERFORM revec.discover(c, of_resource, said_limit, said_left, was_429, moment);
        RETURN;
    END IF;
    IF said_limit > 0 AND said_limit <> q.capacity THEN
        q.rate := CASE WHEN q.said IS NULL THEN said_limit / 60 ELSE q.rate END;
        q.capacity := said_limit;
    END IF;
    IF said_left IS NOT NULL THEN
        seconds := extract(epoch FROM c.at - q.said_at);
        IF c_spent > q.said_spent OR q.said IS NULL THEN
            q.level := said_left - (q.spent - c_spent); q.at := c.at;
            q.fullest := greatest(q.fullest, said_left + cost - refused);
            full_from := 0.95 * least(q.capacity, q.fullest);
            -- A word within a second of the last one says too little of the rate; a bucket that was full in
            -- between lost what flowed, and what it says then would make us slower and slower.
            IF q.said IS NULL OR seconds >= 1 THEN
                IF q.said + q.rate * seconds < full_from AND said_left + cost < full_from THEN
                    q.rate := q.rate + (1 - exp(-seconds / 15))
                              * ((said_left - q.said + c_spent - refused - q.said_spent) / seconds - q.rate);
                    q.rate := least(greatest(q.rate, q.capacity / 60 * 0.02), q.capacity / 60 * 1.25);
                END IF;
                q.said := said_left; q.said_at := c.at; q.said_spent := c_spent;
            END IF;
        ELSIF was_429 THEN
            q.level := least(q.level, said_left); q.at := greatest(q.at, c.at);
        END IF;
    ELSIF was_429 AND of_resource = 'tokens' THEN
        q.level := 0; q.at := moment; q.said := NULL;
        IF q.slowed_at IS NULL OR moment - q.slowed_at > interval '5 seconds' THEN
            q.rate := greatest(q.rate * 0.9, q.capacity / 60 * 0.02); q.slowed_at := moment;
        END IF;
    ELSE  -- nobody tells what is left: what was counted and not billed is
        q.level := q.level + unbilled;
        IF moment - q.slowed_at > interval '1 minute' THEN
            q.rate := least(q.rate * 1.02, q.capacity / 60); q.slowed_at := moment;
        END IF;
    END IF;
    UPDATE revec.quota
       SET capacity = q.capacity, rate = q.rate, level = q.level, at = q.at, said = q.said,
           said_at = q.said_at, said_spent = q.said_spent, fullest = q.fullest, slowed_at = q.slowed_at
     WHERE model = c.model AND resource = of_resource;
END $$;

-- A limit that nobody declared: as the provider tells it; after a 429 without a word, what we did in the
-- last minute, if that was a load.
CREATE FUNCTION revec.discover(
    c revec.call, of_resource text, said_limit float8, said_left float8, was_429 boolean, moment timestamptz)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO revec.quota (model, resource, capacity, rate, level, at, said, said_at)
    SELECT c.model, of_resource, said_limit, said_limit / 60, coalesce(said_left, 0), c.at, said_left, c.at
     WHERE said_limit > 0;
    INSERT INTO revec.quota (model, resource, capacity, rate, level, at, slowed_at)
    SELECT c.model, of_resource, sum(tokens), sum(tokens) * 0.9 / 60, 0, moment, moment
      FROM revec.call
     WHERE model = c.model AND at > moment - interval '1 minute'
       AND was_429 AND of_resource = 'tokens' AND said_limit IS NULL
    HAVING sum(tokens) > 100000;
$$;
