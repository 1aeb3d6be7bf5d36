// Narrow rows through the whole cache: the naive model is given what the codec makes of each row, so the kept sets must
// be equal and the outputs as close as with f32.
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/prefill.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/tova.hpp>

#include "reference/lockstep.hpp"
#include "support/codecs.hpp"

namespace storage_test {

namespace ms = multistate;
using reference::operation;
using reference::rule;

/// Replaces each row of `width` floats by what is read after it was stored.
template <class Codec>
void through(std::vector<float>& floats, std::size_t width) {
    ms::storage<Codec> memory(1, 1, width);
    for (std::size_t i = 0; i < floats.size(); i += width) {
        memory.write(0, 0, floats.data() + i);
        memory.plane(0).read(0, floats.data() + i);
    }
}

const std::vector<operation> operations{{operation::exact, 30}, {operation::step},      {operation::step},
                                        {operation::block, 25}, {operation::exact, 30}, {operation::forget},
                                        {operation::clone},     {operation::step},      {operation::block, 30}};

constexpr ms::shape shape{
    .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 36, .value_dim = 20, .states = 12, .block = 30};

template <class Policy, class KeyCodec, class ValueCodec>
void run(const rule& forgets_by) {
    constexpr bool narrow = KeyCodec::scaled || ValueCodec::scaled;  // queries and weights are rounded to 16 bits
    const reference::prepared p = reference::prepare(
        {forgets_by, shape, operations},
        [](support::stream& tokens) {
            through<KeyCodec>(tokens.keys, shape.head_dim);
            through<ValueCodec>(tokens.values, shape.value_dim);
        },
        narrow ? 1e-4 : reference::least_margin);
    ms::cache<Policy, KeyCodec, ValueCodec> cache(shape);
    reference::lockstep test(cache, p);
    if (narrow) test.bound = 1e-4;
    test.run();
}

/// Where queries are rounded too, the model decides otherwise; step.test.cpp has the error.
template <class Codec>
using if_decisive = std::conditional_t<support::rounds_to_bfloat16<Codec>, ms::type_list<>, ms::type_list<Codec>>;
template <class... Codecs>
using decisive = typename decltype((ms::type_list<>{} + ... + if_decisive<Codecs>{}))::template apply<testing::Types>;

template <class Codec>
class storage : public testing::Test {};
TYPED_TEST_SUITE(storage, ms::codecs::apply<decisive>, support::type_names);

TYPED_TEST(storage, decides_and_attends_by_what_is_stored) {
    run<ms::h2o, TypeParam, TypeParam>(reference::rule_named("h2o"));
    run<ms::tova, ms::f32, TypeParam>(reference::rule_named("tova"));
}

/// Keys, scales and values, each smaller than a huge page, lie in one allocation of more than a huge page.
TEST(storage_memory, is_one_piece_that_begins_with_a_huge_page) {
    const std::vector<std::size_t> rows(16, 514);
    const ms::shape s{.layers = 2, .heads = 8, .kv_heads = 8, .head_dim = 128, .value_dim = 96};
    ms::key_value_storage<ms::int8, ms::f16> stored(rows, s);
    const auto address = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p); };
    const std::uintptr_t begin = address(stored.keys(0).data);
    EXPECT_EQ(begin % (std::size_t{2} << 20), 0u);
    EXPECT_EQ(stored.memory_bytes(), (ms::key_value_storage<ms::int8, ms::f16>::bytes_for(16, 16 * 514, s)));
    const std::size_t keys = 16 * 514 * 128, scales = 16 * 514 * sizeof(float);
    EXPECT_GE(address(stored.keys(0).scales), begin + keys);
    EXPECT_GE(address(stored.values(0).data), address(stored.keys(0).scales) + scales);
    EXPECT_EQ(address(stored.values(0).data) % 64, 0u);
    EXPECT_LE(address(stored.values(15).data + 514 * 96), begin + stored.memory_bytes());
    const auto moved = std::move(stored);
    EXPECT_EQ(address(moved.keys(0).data), begin);
}

/// A key that is not a number spoils the probabilities of every token that sees it: it is the first to go, so that the
/// outputs recover with the next token.
TEST(storage_of_nan, passes) {
    constexpr std::size_t states = 4;
    ms::cache<ms::tova> cache({.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 20, .states = states});
    ms::workspace scratch(cache.shape());
    const std::vector<float> good(20, 0.5f), bad(20, std::nanf(""));
    std::vector<float> out(20);
    for (int p = 0; p < 14; ++p) {
        EXPECT_TRUE(ms::step(cache.layer(0), p, {good, p == 5 ? bad : good, good}, out, scratch));
        EXPECT_EQ(std::isnan(out[0]), p == 5) << p;
    }
}

}  // namespace storage_test
