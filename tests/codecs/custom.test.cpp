// A codec of the user's own: plain functions, no vectors. It must work in a cache, in attention, and with every policy
// that reads stored rows, and give what f32 gives.
#include <array>
#include <span>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/prefill.hpp>
#include <multistate/attention/step.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/codecs/f32.hpp>
#include <multistate/policies/list.hpp>

#include "support/any_policy.hpp"
#include "support/random.hpp"

namespace custom_codec_test {

namespace ms = multistate;

/// Floats in doubles, in reverse order within 16 columns: nothing works by accident.
struct f64 {
    static constexpr std::string_view name = "f64";
    static constexpr bool scaled = false;
    using element = double;
    static constexpr std::size_t stride(std::size_t n) noexcept { return (n + 15) / 16 * 16; }
    static constexpr std::size_t place(std::size_t column) noexcept { return column ^ 15; }
    static float store(const float* x, std::size_t n, element* row) noexcept {
        for (std::size_t c = 0; c < stride(n); ++c) row[place(c)] = c < n ? static_cast<double>(x[c]) : 0;
        return 1;
    }
    static void decode(const element* row, std::size_t first, std::span<float> out) noexcept {
        for (std::size_t c = 0; c < out.size(); ++c) out[c] = static_cast<float>(row[place(first + c)]);
    }
};
static_assert(ms::codec<f64>);

/// The same with a scale of 1/4 per row: a power of two, so that products with it are exact.
struct quarters : f64 {
    static constexpr bool scaled = true;
    static float store(const float* x, std::size_t n, element* row) noexcept {
        f64::store(x, n, row);
        for (std::size_t c = 0; c < stride(n); ++c) row[c] *= 4;
        return 0.25f;
    }
};
static_assert(ms::codec<quarters>);

struct without_decode {
    static constexpr std::string_view name = "without_decode";
    static constexpr bool scaled = false;
    using element = double;
    static constexpr std::size_t stride(std::size_t n) noexcept { return n; }
    static float store(const float*, std::size_t, element*) noexcept { return 1; }
};
static_assert(!ms::codec<without_decode>);
struct may_throw : f64 {
    static float store(const float*, std::size_t, element*) { return 1; }
};
static_assert(!ms::codec<may_throw>);

constexpr ms::shape small{
    .layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 20, .value_dim = 24, .states = 12, .block = 30};

/// The outputs of a prompt and of some steps, and the positions that are left.
struct run_result {
    std::vector<float> outputs;
    std::vector<ms::position> positions;
};

template <class Codec>
run_result run(const ms::any_policy& policy) {
    ms::cache<ms::any_policy, Codec> cache(small, policy);
    ms::workspace scratch(cache.shape());
    const auto layer = cache.layer(0);
    support::random_numbers random(3);
    run_result result;
    std::vector<float> out;
    const auto tokens = [&](std::size_t n) {
        out.assign(n * 4 * 24, 0);
        return std::array{random.floats(n * 4 * 20, 1), random.floats(n * 2 * 20, 1), random.floats(n * 2 * 24, 1)};
    };
    const auto prompt = tokens(30);
    EXPECT_TRUE(ms::prefill(layer, 0, {.q = prompt[0], .k = prompt[1], .v = prompt[2]}, out, scratch));
    result.outputs = out;
    for (ms::position p = 30; p < 60; ++p) {
        const auto token = tokens(1);
        EXPECT_TRUE(ms::step(layer, p, {.q = token[0], .k = token[1], .v = token[2]}, out, scratch));
        result.outputs.insert(result.outputs.end(), out.begin(), out.end());
    }
    for (std::size_t head = 0; head < 2; ++head) {
        const auto held = layer.positions(head);
        result.positions.insert(result.positions.end(), held.begin(), held.end());
    }
    return result;
}

template <class Codec>
class custom_codec : public testing::Test {};
using custom_codecs = testing::Types<f64, quarters>;
TYPED_TEST_SUITE(custom_codec, custom_codecs);

TYPED_TEST(custom_codec, gives_the_bits_of_f32_under_every_policy) {
    for (const std::string_view name : ms::any_policy::names) {
        if (name == "full") continue;  // forgets nothing: it refuses the steps
        const auto policy = ms::any_policy::named(name);
        const run_result expected = run<ms::f32>(policy), result = run<TypeParam>(policy);
        EXPECT_EQ(result.positions, expected.positions) << name;
        EXPECT_EQ(result.outputs, expected.outputs) << name;
    }
}

}  // namespace custom_codec_test
