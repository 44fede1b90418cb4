-- name: of_vectors
embedding halfvec_cosine_ops

-- name: of_signs
(binary_quantize(embedding)::bit({dims})) bit_hamming_ops

-- name: between_vectors
embedding <=> {other}

-- name: between_signs
binary_quantize(embedding)::bit({dims}) <~> binary_quantize({other})::bit({dims})

-- name: between_own
own {operator} {other}::{type}
