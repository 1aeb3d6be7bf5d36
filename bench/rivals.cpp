#include "rivals.hpp"

#include <cmath>

#include <multistate/attention/reference.hpp>

namespace bench {

template <class Codec>
double rivals<Codec>::eigen(std::span<const float> q) {
    const auto rows = stored_.next(elements());
    return seconds([&] {
        eigen_attention<element>(shape_, n_, q, rows.data(), rows.data() + rows.size() / 2, scales_, scales_, out_);
    });
}

template <class Codec>
double rivals<Codec>::reference(std::span<const float> q) {
    const auto rows = floats_.next(elements());
    return seconds([&] {
        ms::reference_attention(shape_, n_, q, rows.first(rows.size() / 2), rows.last(rows.size() / 2), out_,
                                probabilities_);
    });
}

template <class Codec>
bool rivals<Codec>::agree(std::span<const float> q) const {
    const std::size_t few = std::min<std::size_t>(n_, 8);  // not constexpr, or GCC 12 warns inside Eigen
    const std::size_t half = shape_.kv_heads * few * shape_.head_dim;
    std::vector<element> stored = pattern();
    stored.resize(std::max(stored.size(), 2 * half));
    const std::vector<float> scales(scaled ? few : 0, unit);
    std::vector<float> floats(2 * half), a(out_.size()), b(out_.size()), probabilities(shape_.heads * few);
    for (std::size_t i = 0; i < 2 * half; ++i) floats[i] = static_cast<float>(stored[i]) * unit;
    eigen_attention<element>(shape_, few, q, stored.data(), stored.data() + half, scales, scales, a);
    ms::reference_attention(shape_, few, q, std::span(floats).first(half), std::span(floats).last(half), b,
                            probabilities);
    return std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) { return std::abs(x - y) < 1e-4f; });
}

template class rivals<ms::f32>;
template class rivals<ms::f16>;
template class rivals<ms::bf16>;
template class rivals<ms::int8>;
template class rivals<ms::int4>;

}  // namespace bench
