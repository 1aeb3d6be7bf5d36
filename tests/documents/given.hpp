// What the examples in the documents leave to the reader: an engine's projections and attention.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <multistate/multistate.hpp>

struct projections {
    std::vector<float> q, k, v;
};
projections project(std::size_t layer, ms::position position);
void my_attention(std::span<const float> q, const auto& layer, std::span<float> out, std::span<float> probabilities);

inline ms::cache<ms::tova, ms::bf16> cache({.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 64, .states = 16});
inline std::vector<float> q, k, v, out, probabilities;
inline ms::position position;
inline std::size_t i;
