"""A server on this machine that speaks the providers' wires, for tests and benches.

    python -m tests.loopback --port 0

Its first line is its base URL. Vectors are a pure function of (text, model, dims), so a test can
recompute every one that was stored. It keeps a quota like a provider's, keeps its own bill and log,
and misbehaves when told to:

    POST   /v1/embeddings, /voyage/v1/embeddings, /v2/embed, /v1beta/models/M:batchEmbedContents
                              the wires of OpenAI, Voyage, Cohere, Gemini
    GET    /bill              one line per input that was worked on
    GET    /log               one line per request: provider's time, status, tokens, what was asked
    GET    /requests          {"requests", "inputs"}: what came in, good or bad
    DELETE /bill              forgets all three
    POST   /fault             {"kind", "times", "match", …}; DELETE clears all
    POST   /v1/files, /v1/batches, /upload/v1beta/files, /v1beta/models/M:asyncBatchEmbedContent and what
                              belongs to them: the batch APIs of OpenAI and Gemini; POST /batches sets their
                              faults, POST /finish ends batches
    POST   /limits            {"rpm", "tpm", "retry_after"}: a new quota, full; DELETE: as at the start
    POST   /steal             {"share"}: another application takes this much of the quota's refill
    POST   /hold, /release    the gate: requests wait behind it
    GET    /held?at_least=n   answers once n requests wait
"""

from tests.loopback.client import Loopback
from tests.loopback.embedding import dims_of, vector, vectors

__all__ = ["Loopback", "dims_of", "vector", "vectors"]
