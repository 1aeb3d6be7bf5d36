// The reference itself, against numbers worked out by hand.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/reference.hpp>

namespace reference_attention_test {

namespace ms = multistate;

/// One KV head shared by two query heads, two states. Logits of the first query: ln 3 and 0, so 3/4 and 1/4; of the
/// second: 0 and 0.
TEST(reference_attention, equals_a_hand_calculation) {
    const ms::shape shape{.layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 2, .value_dim = 1, .scale = 0.5f};
    const std::vector<float> q{2 * std::log(3.0f), 0, 0, 0};
    const std::vector<float> keys{1, 5, 0, 7};
    const std::vector<float> values{8, 4};
    std::vector<float> out(2), probabilities(4);
    ms::reference_attention(shape, 2, q, keys, values, out, probabilities);
    const float expected[] = {0.75f, 0.25f, 0.5f, 0.5f};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(probabilities[i], expected[i]);
    EXPECT_FLOAT_EQ(out[0], 7);
    EXPECT_FLOAT_EQ(out[1], 6);
}

TEST(reference_attention, caps_logits) {
    const ms::shape shape{.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .scale = 1.0f, .softcap = 2};
    std::vector<float> out(1), probabilities(2);
    ms::reference_attention(shape, 2, std::vector<float>{1}, std::vector<float>{3, 0}, std::vector<float>{1, 0}, out,
                            probabilities);
    const double capped = std::exp(2 * std::tanh(1.5));
    EXPECT_NEAR(out[0], capped / (1 + capped), 1e-6);  // a few roundings of float32
}

}  // namespace reference_attention_test
