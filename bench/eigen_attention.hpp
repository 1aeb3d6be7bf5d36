#pragma once

// What a good programmer writes first: attention in a few lines of Eigen, on elements as they are stored. The baseline
// of the benchmarks; multistate/attention/reference.hpp is a second one, on floats and with matrix products.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <Eigen/Core>
#include <multistate/codecs/f16.hpp>
#include <multistate/codecs/f32.hpp>
#include <multistate/core/shape.hpp>

namespace bench {

/// The element that Eigen has for a codec: a byte where the codec has a byte or less.
template <class Codec>
struct eigen_element {
    using type = std::int8_t;
};
template <>
struct eigen_element<multistate::f32> {
    using type = float;
};
template <>
struct eigen_element<multistate::f16> {
    using type = Eigen::half;
};
template <>
struct eigen_element<multistate::bf16> {
    using type = Eigen::bfloat16;
};

template <class Element>
using row_major = Eigen::Matrix<Element, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline Eigen::Index index(std::size_t n) { return static_cast<Eigen::Index>(n); }

/// The rows as floats: themselves, or widened into `buffer`.
template <class Element>
decltype(auto) as_floats(const Eigen::Map<const row_major<Element>>& stored, row_major<float>& buffer) {
    if constexpr (std::is_same_v<Element, float>) {
        return (stored);
    } else {
        buffer = stored.template cast<float>();
        return (buffer);
    }
}

/// Attention of one token over n states: for each KV head its rows widened to float, then two matrix products for the
/// query heads of its group. (A cast inside the products needs no buffer, but Eigen 3.4 does not vectorize it well.)
///
/// q [heads, head_dim], keys and values [kv_heads, n, head_dim], out [heads, head_dim]. Rows of int8 have a scale each:
/// key_scales and value_scales are [n], the same for every KV head; empty for other elements.
template <class Element>
void eigen_attention(const multistate::shape& s, std::size_t n, std::span<const float> q, const Element* keys,
                     const Element* values, std::span<const float> key_scales, std::span<const float> value_scales,
                     std::span<float> out) {
    using stored_rows = Eigen::Map<const row_major<Element>>;
    using scales = Eigen::Map<const Eigen::ArrayXf>;
    const Eigen::Index d = index(s.head_dim);
    const Eigen::Index group = index(s.group());
    const float scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
    row_major<float> p(group, index(n)), buffer;
    for (std::size_t h = 0; h < s.kv_heads; ++h) {
        const stored_rows key(keys + h * n * s.head_dim, index(n), d);
        const stored_rows value(values + h * n * s.head_dim, index(n), d);
        const Eigen::Map<const row_major<float>> query(q.data() + index(h) * group * d, group, d);
        Eigen::Map<row_major<float>> result(out.data() + index(h) * group * d, group, d);

        p.noalias() = scale * query * as_floats<Element>(key, buffer).transpose();
        for (Eigen::Index g = 0; g < group; ++g) {
            auto row = p.row(g).array();
            if (!key_scales.empty()) row *= scales(key_scales.data(), index(n)).transpose();
            row = (row - row.maxCoeff()).exp();
            row /= row.sum();
            if (!value_scales.empty()) row *= scales(value_scales.data(), index(n)).transpose();
        }
        result.noalias() = p * as_floats<Element>(value, buffer);
    }
}

/// Attention of a block of tokens over `states` survivors and causally over itself, in floats: for each head a product,
/// a masked softmax, a product. q and out [heads, tokens, head_dim], keys and values [heads, states + tokens,
/// head_dim]: the layout that suits Eigen.
inline void eigen_block_attention(const multistate::shape& s, std::size_t states, std::size_t tokens,
                                  std::span<const float> q, std::span<const float> keys, std::span<const float> values,
                                  std::span<float> out) {
    const Eigen::Index d = index(s.head_dim);
    const Eigen::Index n = index(states + tokens);
    const Eigen::Index m = index(tokens);
    const float scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
    row_major<float> p(m, n);
    for (std::size_t h = 0; h < s.heads; ++h) {
        const Eigen::Map<const row_major<float>> query(q.data() + h * tokens * s.head_dim, m, d);
        const Eigen::Map<const row_major<float>> key(keys.data() + index(h) * n * d, n, d);
        const Eigen::Map<const row_major<float>> value(values.data() + index(h) * n * d, n, d);
        p.noalias() = scale * query * key.transpose();
        for (Eigen::Index i = 0; i < m; ++i) {
            const Eigen::Index visible = index(states) + i + 1;
            auto row = p.row(i).head(visible);
            row = (row.array() - row.maxCoeff()).exp();
            row /= row.sum();
            p.row(i).tail(n - visible).setZero();
        }
        Eigen::Map<row_major<float>>(out.data() + h * tokens * s.head_dim, m, d).noalias() = p * value;
    }
}

}  // namespace bench
