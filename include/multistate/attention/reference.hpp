#pragma once

// The mathematics of attention in readable Eigen code: the oracle of the tests and the baseline of the benchmarks. Not
// part of multistate.hpp, because it needs Eigen and allocates. To decode, use step.hpp.
//
//     ms::reference_attention(cache.shape(), n, q, keys, values, out, probabilities);   // keys and values as floats
//     ms::reference_attention(cache.layer(i), q, out, probabilities);                   // on the rows of a cache
#include <span>
#include <vector>

#include <Eigen/Core>

#include "multistate/cache/cache.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// softmax(scale * Q K^T) V for one token and n states; each KV head is shared by its group of query heads.
///
/// q [heads, head_dim], keys [kv_heads, n, head_dim], values [kv_heads, n, value_dim], out [heads, value_dim],
/// probabilities [heads, n]. Uses scale and softcap of the shape; a cache has filled them in.
inline void reference_attention(const shape& given, std::size_t n, std::span<const float> q,
                                std::span<const float> keys, std::span<const float> values, std::span<float> out,
                                std::span<float> probabilities) {
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const shape s = detail::checked(given);
    const auto group = static_cast<Eigen::Index>(s.group());
    const auto states = static_cast<Eigen::Index>(n);
    const auto key_dim = static_cast<Eigen::Index>(s.head_dim);
    const auto value_dim = static_cast<Eigen::Index>(s.value_dim);
    for (std::size_t h = 0; h < s.kv_heads; ++h) {
        const std::size_t head = h * s.group();
        const Eigen::Map<const matrix> query(q.data() + head * s.head_dim, group, key_dim);
        const Eigen::Map<const matrix> key(keys.data() + h * n * s.head_dim, states, key_dim);
        const Eigen::Map<const matrix> value(values.data() + h * n * s.value_dim, states, value_dim);
        Eigen::Map<matrix> p(probabilities.data() + head * n, group, states);
        Eigen::Map<matrix> result(out.data() + head * s.value_dim, group, value_dim);

        p.noalias() = *s.scale * query * key.transpose();
        if (s.softcap != 0) p = s.softcap * (p.array() / s.softcap).tanh();
        const Eigen::VectorXf greatest = p.rowwise().maxCoeff();
        p = (p.colwise() - greatest).array().exp();
        const Eigen::ArrayXf sum = p.rowwise().sum();
        p.array().colwise() /= sum;
        result.noalias() = p * value;
    }
}

/// The same over the rows of a cache in one layer; all KV heads hold equally many. Probabilities are [heads, size()].
template <class Cache>
void reference_attention(const cache_layer<Cache>& layer, std::span<const float> q, std::span<float> out,
                         std::span<float> probabilities) {
    const shape& s = layer.shape();
    const std::size_t n = layer.size();
    std::vector<float> keys(s.kv_heads * n * s.head_dim);
    std::vector<float> values(s.kv_heads * n * s.value_dim);
    for (std::size_t h = 0; h < s.kv_heads; ++h) {
        for (std::size_t j = 0; j < n; ++j) {
            layer.keys(h).read(j, keys.data() + (h * n + j) * s.head_dim);
            layer.values(h).read(j, values.data() + (h * n + j) * s.value_dim);
        }
    }
    reference_attention(s, n, q, keys, values, out, probabilities);
}

}}  // namespace multistate::MULTISTATE_TARGET
