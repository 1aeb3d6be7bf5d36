// The engine: its likelihoods are those of the naive model on every shape of file, and a file that it cannot run gets
// one sentence.
#include "llama.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include <gtest/gtest.h>

#include "engine/naive_llama.hpp"
#include "engine/synthetic_gguf.hpp"
#include "gguf.hpp"
#include "read_vocabulary.hpp"
#include "support/temporary_folder.hpp"

namespace llama_test {

using demo::gguf;
using demo::llama;
using demo::matrix;
using demo::synthetic_llama;
using demo::tensor_type;
using demo::token;
namespace ms = multistate;

// Sums of at most 512 products in float32 through at most three layers: errors seen are below 1.2e-5. Whatever is
// wrong in the mathematics moves a likelihood by far more than this.
constexpr double rounding = 1e-4;

std::vector<token> random_tokens(std::size_t count, std::size_t vocabulary, std::uint64_t seed) {
    demo::random_numbers random(seed);
    std::vector<token> tokens(count);
    for (token& each : tokens) each = static_cast<token>(random.below(vocabulary));
    return tokens;
}

/// NLLs of the demo's engine with a full cache, fed in blocks.
std::vector<double> engine_nll(const gguf& file, std::span<const token> tokens, std::size_t block,
                               std::size_t threads = 1) {
    ms::thread_pool pool(threads);
    llama model(file, pool);
    ms::cache<ms::full> cache(model.cache_shape(tokens.size(), block));
    matrix hidden;
    std::vector<double> nll(tokens.size() - 1);
    for (std::size_t first = 0; first < tokens.size(); first += block) {
        const std::size_t count = std::min(block, tokens.size() - first);
        EXPECT_TRUE(model.prefill(cache, tokens.subspan(first, count), static_cast<ms::position>(first),
                                  ms::prefill_mode::exact, hidden));
        const std::size_t predicted = std::min(count, tokens.size() - 1 - first);
        model.negative_log_likelihoods(hidden, tokens.subspan(first + 1, predicted),
                                       std::span(nll).subspan(first, predicted));
    }
    return nll;
}

void expect_near(const std::vector<double>& given, const std::vector<double>& expected, double bound) {
    ASSERT_EQ(given.size(), expected.size());
    double worst = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
        ASSERT_TRUE(std::isfinite(given[i])) << "token " << i;
        worst = std::max(worst, std::fabs(given[i] - expected[i]));
    }
    EXPECT_LE(worst, bound);
}

struct shape_case {
    std::string name;
    synthetic_llama options;
    friend std::ostream& operator<<(std::ostream& out, const shape_case& c) { return out << c.name; }
};

class LlamaShapes : public testing::TestWithParam<shape_case> {};

TEST_P(LlamaShapes, LikelihoodsAreThoseOfTheNaiveModel) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", GetParam().options);
    const gguf file(folder / "model.gguf");
    const auto tokens = random_tokens(40, GetParam().options.vocabulary, 7);
    const auto expected = demo::naive_llama(file).run(tokens, {});
    for (const std::size_t block : {1U, 7U, 64U}) {
        SCOPED_TRACE(block);
        expect_near(engine_nll(file, tokens, block), expected.nll, rounding);
    }
}

std::vector<shape_case> shapes() {
    std::vector<shape_case> cases{
        {"plain", {}},
        {"tied", {.tied = true}},
        {"version_2", {.version = 2}},
        {"multi_head", {.kv_heads = 4}},
        {"groups_of_4", {.heads = 8, .kv_heads = 2, .head_dim = 8}},
        {"one_kv_head", {.kv_heads = 1}},
        {"one_head", {.heads = 1, .kv_heads = 1, .head_dim = 64}},
        {"one_layer", {.layers = 1}},
        {"three_layers", {.layers = 3}},
        {"wide_heads", {.heads = 4, .kv_heads = 2, .head_dim = 24}},
        {"narrow_heads", {.heads = 4, .kv_heads = 4, .head_dim = 6}},
        {"narrow_values", {.head_dim = 20, .value_dim = 12}},
        {"wide_values", {.head_dim = 8, .value_dim = 40}},
        {"heads_that_do_not_divide_the_width", {.heads = 3, .kv_heads = 3, .head_dim = 16}},
        {"part_of_a_head_is_rotated", {.rope_dimensions = 6}},
        {"rope_base", {.rope_base = 500000.0F}},
        {"rope_scale", {.rope_scale = 4.0F}},
        {"rope_freqs", {.rope_freqs = true}},
        {"scaling_without_a_type", {.scaling_factor = 4.0F}},
        {"scaling_by_the_older_key", {.scale_linear = 4.0F}},
        {"scaling_by_the_older_key_with_a_type", {.scaling_type = "linear", .scale_linear = 4.0F}},
        {"scaling_by_both_keys", {.scaling_factor = 4.0F, .scale_linear = 2.0F}},
        {"scaling_of_type_none", {.scaling_type = "none", .scaling_factor = 4.0F, .scale_linear = 2.0F}},
        {"attention_factor", {.attn_factor = 1.2F}},
        {"yarn", {.scaling_type = "yarn", .scaling_factor = 8.0F, .original_context = 2048}},
        {"yarn_by_the_older_key", {.scaling_type = "yarn", .scale_linear = 8.0F, .original_context = 2048}},
        {"yarn_of_the_trained_length", {.context = 4096, .scaling_type = "yarn", .scaling_factor = 16.0F}},
        {"yarn_with_an_attention_factor",
         {.scaling_type = "yarn", .scaling_factor = 4.0F, .attn_factor = 0.8F, .original_context = 1024}},
        {"yarn_with_betas",
         {.scaling_type = "yarn",
          .scaling_factor = 4.0F,
          .yarn_beta_fast = 16.0F,
          .yarn_beta_slow = 2.0F,
          .original_context = 1024}},
        {"yarn_as_a_step", {.rope_base = 1e6F, .scaling_type = "yarn", .scaling_factor = 4.0F, .original_context = 4}},
        {"yarn_of_a_part_of_a_head_and_factors",
         {.scaling_type = "yarn",
          .scaling_factor = 4.0F,
          .original_context = 512,
          .rope_dimensions = 10,
          .rope_freqs = true}},
        {"all_of_rope", {.rope_base = 200.0F, .rope_scale = 2.0F, .rope_dimensions = 10, .rope_freqs = true}},
        {"biases", {.biases = true}},
        {"large_epsilon", {.rms_epsilon = 0.3F}},
        {"odd_sizes", {.width = 52, .heads = 4, .kv_heads = 2, .head_dim = 13 * 2, .feed_forward = 77}},
        {"large_vocabulary", {.width = 32, .heads = 2, .kv_heads = 1, .feed_forward = 32, .vocabulary = 1000}},
        {"gpt2_vocabulary", {.tokenizer = "gpt2"}},
    };
    for (const tensor_type type : {tensor_type::f16, tensor_type::bf16, tensor_type::q8_0, tensor_type::q4_0,
                                   tensor_type::q4_k, tensor_type::q6_k}) {
        for (const bool tied : {false, true}) {
            const synthetic_llama options{.layers = 2,
                                          .width = 256,
                                          .heads = 8,
                                          .kv_heads = 2,
                                          .head_dim = 32,
                                          .feed_forward = 256,
                                          .vocabulary = 400,
                                          .tied = tied,
                                          .matrices = type};
            cases.push_back({std::string(demo::layout_of(type).name) + (tied ? "_tied" : ""), options});
        }
    }
    return cases;
}

INSTANTIATE_TEST_SUITE_P(Files, LlamaShapes, testing::ValuesIn(shapes()),
                         [](const auto& test) { return test.param.name; });

TEST(Llama, ThreadsDoNotChangeABit) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", {.feed_forward = 300});
    const gguf file(folder / "model.gguf");
    const auto tokens = random_tokens(60, 512, 3);
    const auto one = engine_nll(file, tokens, 16, 1);
    EXPECT_EQ(one, engine_nll(file, tokens, 16, 2));
    EXPECT_EQ(one, engine_nll(file, tokens, 16, 5));
}

/// Files that say the same in other keys give the same numbers, to the bit.
TEST(Llama, WaysToSayTheSameScaling) {
    const demo::temporary_folder folder;
    const auto tokens = random_tokens(30, 512, 5);
    const auto nll = [&](const synthetic_llama& options) {
        demo::write_synthetic_llama(folder / "model.gguf", options);
        return engine_nll(gguf(folder / "model.gguf"), tokens, 30);
    };
    const auto plain = nll({});
    const auto linear = nll({.scaling_type = "linear", .scaling_factor = 8.0F});
    EXPECT_NE(linear, plain);
    EXPECT_EQ(nll({.scaling_factor = 8.0F}), linear);
    EXPECT_EQ(nll({.scale_linear = 8.0F}), linear);
    EXPECT_EQ(nll({.scaling_type = "linear", .scale_linear = 8.0F}), linear);
    EXPECT_EQ(nll({.scaling_factor = 8.0F, .scale_linear = 2.0F}), linear);
    EXPECT_EQ(nll({.scaling_type = "none", .scaling_factor = 8.0F}), plain);
    EXPECT_EQ(nll({.scaling_type = "none", .scale_linear = 8.0F}), plain);
    EXPECT_EQ(nll({.scaling_type = "linear"}), plain);
    const auto yarn = nll({.scaling_type = "yarn", .scaling_factor = 8.0F, .original_context = 256});
    EXPECT_NE(yarn, linear);
    EXPECT_NE(yarn, plain);
    EXPECT_EQ(nll({.context = 256, .scaling_type = "yarn", .scale_linear = 8.0F}), yarn);
}

/// YaRN keeps the fastest pairs, divides the slowest, and the policies that turn keys back are told so.
TEST(Llama, YarnIsBetweenNoScalingAndLinear) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf",
                                {.scaling_type = "yarn", .scaling_factor = 8.0F, .original_context = 2048});
    ms::thread_pool pool(1);
    const gguf file(folder / "model.gguf");
    const llama model(file, pool);
    const auto frequencies = demo::rope_frequencies(model.config(), {});
    ASSERT_EQ(frequencies.size(), 8U);
    // Pair i turns 2048 / (2 pi 10^(i / 2)) times. Pair 2 turns 32.6 times, the last that is kept; pair 6 turns 0.3
    // times, the first that is divided all the way.
    for (std::size_t i = 0; i < 8; ++i) {
        const double share = std::clamp((static_cast<double>(i) - 2) / 4, 0.0, 1.0);
        const double plain = std::pow(10.0, -static_cast<double>(i) / 2);
        EXPECT_NEAR(frequencies[i], plain * (1 - share + share / 8), 1e-12) << i;
    }
    const ms::rope rope = model.rope();
    EXPECT_EQ(rope.stretch, 1.0F);
    std::vector<float> key(16, 1.0F);
    rope.rotate(5, key);
    for (std::size_t i = 0; i < 8; ++i) {
        EXPECT_NEAR(key[2 * i], std::cos(5 * frequencies[i]) - std::sin(5 * frequencies[i]), 1e-5) << i;
    }
}

TEST(Llama, KnowsItsShapeAndSaysWhatItIgnores) {
    const demo::temporary_folder folder;
    ms::thread_pool pool(1);
    demo::write_synthetic_llama(folder / "model.gguf", {.head_dim = 20, .value_dim = 12, .sliding_window = 4096});
    const gguf file(folder / "model.gguf");
    const llama model(file, pool);
    const ms::shape shape = model.cache_shape(33, 5);
    EXPECT_EQ(shape.layers, 2U);
    EXPECT_EQ(shape.heads, 4U);
    EXPECT_EQ(shape.kv_heads, 2U);
    EXPECT_EQ(shape.head_dim, 20U);
    EXPECT_EQ(shape.value_dim, 12U);
    EXPECT_EQ(shape.states, 33U);
    EXPECT_EQ(shape.block, 5U);
    EXPECT_EQ(model.config().vocabulary, 512U);
    ASSERT_EQ(model.notes().size(), 1U);
    EXPECT_NE(model.notes().front().find("4096"), std::string::npos) << model.notes().front();

    demo::write_synthetic_llama(folder / "other.gguf", {});
    EXPECT_TRUE(llama(gguf(folder / "other.gguf"), pool).notes().empty());
}

TEST(Llama, AFullCacheThatIsUsedUpIsSaid) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", {});
    const gguf file(folder / "model.gguf");
    ms::thread_pool pool(1);
    llama model(file, pool);
    ms::cache<ms::full> cache(model.cache_shape(4, 4));  // 8 rows
    matrix hidden;
    const auto tokens = random_tokens(4, 512, 1);
    EXPECT_TRUE(model.prefill(cache, tokens, 0, ms::prefill_mode::exact, hidden));
    EXPECT_TRUE(model.prefill(cache, tokens, 4, ms::prefill_mode::exact, hidden));
    EXPECT_FALSE(model.prefill(cache, tokens, 8, ms::prefill_mode::exact, hidden));
}

TEST(Llama, TokensBeyondABlockOfTheCacheAreAttendedInBlocks) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", {});
    const gguf file(folder / "model.gguf");
    ms::thread_pool pool(1);
    llama model(file, pool);
    demo::random_numbers random(5);
    std::vector<token> tokens(45);
    for (token& each : tokens) each = static_cast<token>(random.below(512));
    const auto make_cache = [&] { return ms::cache<ms::window>(model.cache_shape(12, 20)); };

    std::vector<std::size_t> layers;
    std::vector<ms::position> reached;
    matrix together;
    auto cache = make_cache();
    ASSERT_TRUE(model.prefill(cache, tokens, 0, ms::prefill_mode::block, together, [&](std::size_t layer) {
        layers.push_back(layer);
        reached.push_back(cache.layer(layer).next_position());
    }));
    EXPECT_EQ(layers, (std::vector<std::size_t>{0, 0, 0, 1, 1, 1}));
    EXPECT_EQ(reached, (std::vector<ms::position>{20, 40, 45, 20, 40, 45}));

    auto other = make_cache();
    for (std::size_t first = 0; first < tokens.size(); first += 20) {
        const std::size_t count = std::min<std::size_t>(20, tokens.size() - first);
        matrix apart;
        ASSERT_TRUE(model.prefill(other, std::span(tokens).subspan(first, count), static_cast<ms::position>(first),
                                  ms::prefill_mode::block, apart));
        const auto same = together.middleRows(static_cast<Eigen::Index>(first), static_cast<Eigen::Index>(count));
        EXPECT_LE((apart - same).cwiseAbs().maxCoeff(), 1e-5F * apart.cwiseAbs().maxCoeff()) << "from " << first;
    }
}

/// Four sequences that are 1, 9, 17 and 25 tokens long before they decode 12 tokens each.
template <class Policy>
void expect_decoding_is_prefill_of_single_tokens(const synthetic_llama& options, std::size_t threads) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", options);
    const gguf file(folder / "model.gguf");
    ms::thread_pool pool(threads);
    llama model(file, pool);
    constexpr std::size_t sequences = 4, steps = 12;
    std::vector<ms::cache<Policy>> together, apart;
    std::vector<std::vector<token>> texts;
    std::vector<ms::position> positions;
    matrix hidden, expected;
    for (std::size_t i = 0; i < sequences; ++i) {
        const std::size_t before = 1 + 8 * i;
        texts.push_back(random_tokens(before + steps, options.vocabulary, 40 + i));
        together.emplace_back(model.cache_shape(std::is_same_v<Policy, ms::full> ? 40 : 10, 1));
        ASSERT_TRUE(
            model.prefill(together.back(), std::span(texts.back()).first(before), 0, ms::prefill_mode::exact, hidden));
        apart.push_back(together.back().clone());
        positions.push_back(static_cast<ms::position>(before));
    }
    for (std::size_t step = 0; step < steps; ++step) {
        std::vector<token> tokens;
        for (std::size_t i = 0; i < sequences; ++i) {
            tokens.push_back(texts[i][static_cast<std::size_t>(positions[i])]);
        }
        ASSERT_TRUE(model.decode(std::span(together), tokens, positions, hidden));
        ASSERT_EQ(hidden.rows(), static_cast<Eigen::Index>(sequences));
        for (std::size_t i = 0; i < sequences; ++i) {
            ASSERT_TRUE(model.prefill(apart[i], std::span(tokens).subspan(i, 1), positions[i], ms::prefill_mode::exact,
                                      expected));
            const auto row = hidden.row(static_cast<Eigen::Index>(i));
            ASSERT_TRUE(row.allFinite());
            EXPECT_LE((row - expected.row(0)).cwiseAbs().maxCoeff(), rounding * expected.cwiseAbs().maxCoeff());
            ++positions[i];
        }
    }
    for (std::size_t i = 0; i < sequences; ++i) {
        for (std::size_t layer = 0; layer < together[i].shape().layers; ++layer) {
            for (std::size_t head = 0; head < together[i].shape().kv_heads; ++head) {
                EXPECT_TRUE(std::ranges::equal(together[i].layer(layer).positions(head),
                                               apart[i].layer(layer).positions(head)));
            }
        }
    }
}

TEST(Llama, DecodingABatchIsPrefillOfSingleTokens) {
    const synthetic_llama scaled{.scaling_type = "yarn", .scaling_factor = 8.0F, .original_context = 2048};
    for (const std::size_t threads : {1U, 3U, 8U}) {
        SCOPED_TRACE(threads);
        expect_decoding_is_prefill_of_single_tokens<ms::full>({}, threads);
        expect_decoding_is_prefill_of_single_tokens<ms::tova>({}, threads);
        expect_decoding_is_prefill_of_single_tokens<ms::h2o>(scaled, threads);
    }
}

TEST(Llama, DecodingWithoutRoomChangesNothing) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", {});
    const gguf file(folder / "model.gguf");
    ms::thread_pool pool(1);
    llama model(file, pool);
    std::vector<ms::cache<ms::full>> caches;
    matrix hidden;
    const auto tokens = random_tokens(5, 512, 1);
    for (const std::size_t held : {2U, 5U}) {
        caches.emplace_back(model.cache_shape(4, 1));  // 5 rows
        ASSERT_TRUE(model.prefill(caches.back(), std::span(tokens).first(held), 0, ms::prefill_mode::exact, hidden));
    }
    const std::vector<ms::position> positions{2, 5};
    EXPECT_FALSE(model.decode(std::span(caches), std::span(tokens).first(2), positions, hidden));
    EXPECT_EQ(caches[0].layer(0).next_position(), 2);
    EXPECT_EQ(caches[1].layer(0).next_position(), 5);
    EXPECT_TRUE(
        model.decode(std::span(caches).first(1), std::span(tokens).first(1), std::span(positions).first(1), hidden));
}

TEST(Llama, DecodingRefusesWhatDoesNotFit) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", {});
    const gguf file(folder / "model.gguf");
    ms::thread_pool pool(1);
    llama model(file, pool);
    std::vector<ms::cache<ms::tova>> caches;
    caches.emplace_back(model.cache_shape(4, 1));
    caches.emplace_back(model.cache_shape(64, 1));
    matrix hidden;
    const std::vector<ms::position> positions{0, 0};
    const auto tokens = random_tokens(2, 512, 1);
    EXPECT_THROW((void)model.decode(std::span(caches), tokens, positions, hidden), std::logic_error);
    EXPECT_THROW((void)model.decode(std::span(caches).first(1), tokens, positions, hidden), std::logic_error);
    EXPECT_TRUE(
        model.decode(std::span(caches).first(1), std::span(tokens).first(1), std::span(positions).first(1), hidden));
}

/// The bundled tokenizers: both kinds read from a file what they were given, and know every id that they give.
TEST(Llama, TextBecomesTokensOfTheModel) {
    const demo::temporary_folder folder;
    for (const char* kind : {"llama", "gpt2"}) {
        demo::write_synthetic_llama(folder / "model.gguf", {.tokenizer = kind});
        const gguf file(folder / "model.gguf");
        const auto words = demo::read_tokenizer(file);
        const auto tokens = words.encode("The bell tolled; and he, at the ferry, heard it: 17 times!\n");
        ASSERT_GT(tokens.size(), 10U);
        for (const token each : tokens) EXPECT_LT(static_cast<std::size_t>(each), words.size());
        expect_near(engine_nll(file, tokens, 64), demo::naive_llama(file).run(tokens, {}).nll, rounding);
    }
}

/// What a file says for each layer, all alike, is what others say once.
TEST(Llama, ArraysOfEqualSizes) {
    const demo::temporary_folder folder;
    ms::thread_pool pool(1);
    demo::gguf_writer writer;
    const auto add = [&](const char* key, std::uint32_t value) {
        writer.add_array(std::string("llama.") + key, std::vector<std::uint32_t>(3, value));
    };
    writer.add("general.architecture", "llama");
    writer.add("llama.context_length", 0U);
    writer.add("llama.embedding_length", 64U);
    writer.add("llama.block_count", 3U);
    writer.add("llama.attention.layer_norm_rms_epsilon", 1e-5F);
    add("attention.head_count", 4);
    add("attention.head_count_kv", 2);
    add("attention.key_length", 16);
    add("attention.value_length", 16);
    add("feed_forward_length", 128);
    add("rope.dimension_count", 16);
    demo::synthetic::add_tensors(writer, {.layers = 3});
    writer.write(folder / "arrays.gguf");
    demo::write_synthetic_llama(folder / "model.gguf", {.layers = 3});
    const auto tokens = random_tokens(20, 512, 9);
    const gguf file(folder / "arrays.gguf");
    EXPECT_EQ(engine_nll(file, tokens, 20), engine_nll(gguf(folder / "model.gguf"), tokens, 20));
    const llama model(file, pool);
    ASSERT_EQ(model.notes().size(), 1U);
    EXPECT_NE(model.notes().front().find("'llama.context_length' is 0"), std::string::npos) << model.notes().front();
}

// Files that cannot be run.

/// The bytes of a model in which `key` has another name, so that it is missing.
std::vector<std::byte> without(const demo::gguf_writer& writer, std::string_view key) {
    std::vector<std::byte> bytes = writer.bytes();
    const auto name = std::as_bytes(std::span(key));
    const auto found = std::search(bytes.begin(), bytes.end(), name.begin(), name.end());
    if (found == bytes.end()) throw std::invalid_argument("the file has no " + std::string(key));
    *found = std::byte{'#'};
    return bytes;
}

/// Loading must fail with one sentence that begins with the file's name and has all of `parts`.
void expect_refused(std::span<const std::byte> bytes, const std::vector<std::string>& parts) {
    SCOPED_TRACE(parts.front());
    const demo::temporary_folder folder;
    demo::write_file(folder / "model.gguf", bytes);
    ms::thread_pool pool(1);
    const gguf file(folder / "model.gguf");
    try {
        const llama model(file, pool);
        ADD_FAILURE() << "it was taken";
    } catch (const demo::gguf_error& error) {
        const std::string message = error.what();
        EXPECT_EQ(message.find((folder / "model.gguf").string() + ": "), 0U) << message;
        for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
}

/// The bytes of a model whose `key` has this value.
template <class Value>
std::vector<std::byte> changed(const std::string& key, const Value& value, const synthetic_llama& options = {}) {
    demo::gguf_writer writer = demo::make_synthetic_llama(options);
    const std::vector<std::byte> usual = writer.bytes();
    const auto name = std::as_bytes(std::span(key));
    const bool there = std::search(usual.begin(), usual.end(), name.begin(), name.end()) != usual.end();
    writer.add(key, value);
    return there ? without(writer, key) : writer.bytes();  // which renames the first of that name, the usual one
}

/// As `expect_refused`, for a model whose `key` has this value.
template <class Value>
void expect_value_refused(const std::string& key, const Value& value, std::vector<std::string> parts,
                          const synthetic_llama& options = {}) {
    parts.insert(parts.begin(), "key '" + key + "'");
    expect_refused(changed(key, value, options), parts);
}

TEST(LlamaErrors, WrongValues) {
    expect_value_refused("general.architecture", "gemma2", {"gemma2", "llama and recurformer are supported"});
    expect_value_refused("general.architecture", std::uint32_t{3}, {"3", "expected a string"});
    for (const char* type : {"longrope", "dynamic", "su", "llama3", ""}) {
        expect_value_refused("llama.rope.scaling.type", type, {type, "none, linear and yarn"});
    }
    expect_value_refused("llama.attention.head_count_kv", std::uint32_t{3}, {"3", "divide", "4"});
    expect_value_refused("llama.attention.head_count_kv", std::uint32_t{0}, {"0", "1 to "});
    expect_value_refused("llama.attention.head_count_kv", std::uint32_t{8}, {"8", "divide", "4"});
    expect_value_refused("llama.attention.head_count", std::uint32_t{6}, {"6", "divide", "64"});
    expect_value_refused("llama.attention.head_count", std::uint32_t{0}, {"0", "1 to "});
    expect_value_refused("llama.rope.dimension_count", std::uint32_t{7}, {"7", "even", "16"});
    expect_value_refused("llama.rope.dimension_count", std::uint32_t{18}, {"18", "even", "16"});
    expect_value_refused("llama.rope.dimension_count", std::uint32_t{0}, {"0", "1 to "});
    expect_value_refused("llama.rope.freq_base", 0.0F, {"0", "positive"});
    expect_value_refused("llama.rope.freq_base", -10000.0F, {"-10000", "positive"});
    expect_value_refused("llama.rope.scale_linear", -1.0F, {"-1", "positive"});
    expect_value_refused("llama.rope.scaling.factor", 0.0F, {"0", "positive"}, {.rope_scale = 4.0F});
    expect_value_refused("llama.attention.layer_norm_rms_epsilon", -1.0F, {"-1", "positive"});
    expect_value_refused("llama.attention.layer_norm_rms_epsilon", std::uint32_t{1}, {"1", "float"});
    expect_value_refused("llama.block_count", std::int32_t{-2}, {"-2", "not negative"});
    expect_value_refused("llama.block_count", 2.0F, {"2", "integer"});
    expect_value_refused("llama.feed_forward_length", std::uint32_t{0}, {"0", "1 to "});
}

template <class Value>
bool is_taken(const std::string& key, const Value& value, std::vector<std::string>* notes = nullptr) {
    const demo::temporary_folder folder;
    demo::write_file(folder / "model.gguf", changed(key, value));
    ms::thread_pool pool(1);
    const gguf file(folder / "model.gguf");
    const llama model(file, pool);
    if (notes != nullptr) *notes = model.notes();
    return true;
}

/// Keys whose every other value makes another model of it.
TEST(LlamaErrors, FeaturesThatAreNotSupported) {
    for (const char* key :
         {"attention.clamp_kqv", "attention.max_alibi_bias", "attention.temperature_scale", "attn_logit_softcapping",
          "final_logit_softcapping", "rope.scaling.alpha", "rope.scaling.yarn_log_multiplier"}) {
        const std::string full = std::string("llama.") + key;
        expect_value_refused(full, 8.5F, {"8.5", "only 0 is supported"});
        EXPECT_TRUE(is_taken(full, 0.0F)) << key;
        expect_value_refused(full, "0", {"the string '0'", "a finite number"});
    }
    for (const char* key : {"attention.temperature_length", "expert_count", "expert_used_count", "nextn_predict_layers",
                            "rescale_every_n_layers"}) {
        const std::string full = std::string("llama.") + key;
        expect_value_refused(full, std::uint32_t{8}, {"8", "only 0 is supported"});
        EXPECT_TRUE(is_taken(full, std::uint32_t{0})) << key;
    }
    for (const char* key : {"attention.output_scale", "attention.value_scale", "embedding_scale", "logit_scale",
                            "residual_scale", "rope.scaling.yarn_attn_factor"}) {
        const std::string full = std::string("llama.") + key;
        expect_value_refused(full, 0.5F, {"0.5", "only 1 is supported"});
        EXPECT_TRUE(is_taken(full, 1.0F)) << key;
    }
    for (const auto& [key, usual] : {std::pair{"attention.causal", true}, std::pair{"swin_norm", false},
                                     std::pair{"use_parallel_residual", false}}) {
        const std::string full = std::string("llama.") + key;
        expect_value_refused(full, !usual, {"only", "is supported, no "});
        EXPECT_TRUE(is_taken(full, usual)) << key;
    }
    const synthetic_llama yarn{.scaling_type = "yarn", .scaling_factor = 4.0F};
    expect_value_refused("llama.rope.scaling.yarn_ext_factor", 1.0F, {"only 0 is supported, no part of YaRN"});
    expect_value_refused("llama.rope.scaling.yarn_ext_factor", 0.0F, {"only 1 is supported, no part of YaRN"}, yarn);
    EXPECT_TRUE(is_taken("llama.rope.scaling.yarn_ext_factor", 0.0F));
    expect_value_refused("llama.attention.scale", 0.5F, {"0.5", "1 / sqrt(16)"});
    EXPECT_TRUE(is_taken("llama.attention.scale", 0.25F));
    expect_value_refused("llama.tensor_data_layout", "other", {"'other'", "'Meta AI original pth'"});
    EXPECT_TRUE(is_taken("llama.tensor_data_layout", "Meta AI original pth"));
    expect_value_refused("llama.rope.freq_base_swa", 10000.0F, {"no such key of attention or RoPE"});
    expect_value_refused("llama.rope.freq_bose", 500000.0F, {"no such key of attention or RoPE"});
    expect_value_refused("llama.attention.q_lora_rank", std::uint32_t{16}, {"no such key of attention or RoPE"});
    expect_value_refused("llama.rope.scaling.attn_factor", 0.0F, {"0", "positive"});
    expect_value_refused("llama.rope.freq_base", 1.0F, {"YaRN", "greater than 1"}, yarn);
}

TEST(Llama, KeysThatAreNotKnownAreNotedAndHarmlessOnesAreNot) {
    std::vector<std::string> notes;
    EXPECT_TRUE(is_taken("llama.taste", "sweet", &notes));
    ASSERT_EQ(notes.size(), 1U);
    EXPECT_NE(notes.front().find("'llama.taste'"), std::string::npos) << notes.front();
    for (const char* key : {"llama.pooling_type", "llama.attention.sliding_window", "llama.vocab_size"}) {
        EXPECT_TRUE(is_taken(key, std::uint32_t{0}, &notes));
        EXPECT_TRUE(notes.empty()) << key;
    }
    EXPECT_TRUE(is_taken("llama.rope.scaling.finetuned", true, &notes));
    EXPECT_TRUE(is_taken("general.taste", true, &notes));
    EXPECT_TRUE(notes.empty());
}

TEST(LlamaErrors, LayersThatDiffer) {
    const auto refused = [](const std::string& key, const std::vector<std::int32_t>& sizes,
                            const std::vector<std::string>& parts) {
        demo::gguf_writer writer = demo::make_synthetic_llama({});
        writer.add_array(key, sizes);
        expect_refused(without(writer, key), parts);  // the usual one
    };
    for (const std::string key : {"llama.attention.head_count", "llama.feed_forward_length"}) {
        refused(key, {4, 8}, {"key '" + key + "' is an array of 2 int32", "layer 0 has 4, layer 1 has 8"});
        refused(key, {4}, {"key '" + key + "' is an array of 1 int32", "each of 2 layers"});
        refused(key, {4, 4, 4}, {"each of 2 layers"});
        refused(key, {-4, -4}, {"key '" + key, "1 to 16777216"});
    }
}

TEST(LlamaErrors, TensorsThatWouldBeIgnored) {
    for (const char* name :
         {"blk.0.attn_q_norm.weight", "blk.1.attn_k_norm.weight", "output_norm.bias", "token_embd.bias",
          "token_embd_norm.weight", "blk.2.attn_norm.weight", "blk.0.attn_norm.bias", "rope_factors_long.weight",
          "blk.0.ffn_gate_inp.weight", "blk.0.attn_q.scale", "anything", "blk.00.attn_q.bias"}) {
        for (const bool tied : {false, true}) {
            demo::gguf_writer writer = demo::make_synthetic_llama({.tied = tied});
            writer.add_tensor(name, tensor_type::f32, {64}, std::vector<float>(64));
            expect_refused(writer.bytes(), {"tensor '" + std::string(name) + "' has no place", "another"});
        }
    }
    demo::gguf_writer writer = demo::make_synthetic_llama({.tied = true});
    writer.add_tensor("output.bias", tensor_type::f32, {512}, std::vector<float>(512));
    expect_refused(writer.bytes(), {"tensor 'output.bias' has no place"});
}

/// A copy of a file in which one number of a tensor is another.
std::vector<std::byte> spoiled(const synthetic_llama& options, const std::string& name, std::size_t byte,
                               std::span<const std::byte> bad) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", options);
    std::vector<std::byte> bytes = demo::make_synthetic_llama(options).bytes();
    const gguf file(folder / "model.gguf");
    const auto data = file.tensor(name).data;
    const auto place = std::search(bytes.begin(), bytes.end(), data.begin(), data.end());
    std::ranges::copy(bad, place + static_cast<std::ptrdiff_t>(byte));
    return bytes;
}

TEST(LlamaErrors, WeightsThatAreNotFinite) {
    const synthetic_llama all{.rope_freqs = true, .biases = true};
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
        const auto bits = std::as_bytes(std::span(&bad, 1));
        const std::string what = std::isnan(bad) ? "nan" : bad < 0 ? "is -inf" : "is inf";
        for (const char* name : {"token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight",
                                 "blk.1.attn_output.weight", "output_norm.weight", "blk.0.attn_norm.weight",
                                 "blk.1.ffn_norm.weight", "blk.0.attn_k.bias", "rope_freqs.weight"}) {
            expect_refused(spoiled(all, name, 5 * 4, bits), {"tensor '" + std::string(name) + "'", what, "index 5"});
        }
        // Beyond the first panel of rows.
        expect_refused(spoiled(all, "output.weight", (200 * 64 + 7) * 4, bits),
                       {"'output.weight'", what, "index 7 of row 200"});
    }
    // Where numbers share a scale, it is the scale.
    const std::uint16_t infinite = 0x7C00;
    const synthetic_llama scaled{
        .width = 256, .head_dim = 64, .feed_forward = 256, .vocabulary = 400, .matrices = tensor_type::q8_0};
    expect_refused(spoiled(scaled, "blk.0.attn_v.weight", 34 * 9, std::as_bytes(std::span(&infinite, 1))),
                   {"tensor 'blk.0.attn_v.weight'", "index 32 of row 1"});
}

TEST(LlamaErrors, PartsOfAModel) {
    for (const std::uint16_t part : {std::uint16_t{0}, std::uint16_t{2}}) {
        demo::gguf_writer writer = demo::make_synthetic_llama({.vocabulary_only = true});
        writer.add("split.no", part);
        writer.add("split.count", std::uint16_t{3});
        expect_refused(writer.bytes(), {"part " + std::to_string(part + 1) + " of 3", "merged"});
        const demo::temporary_folder folder;
        writer.write(folder / "part.gguf");
        const gguf file(folder / "part.gguf");
        if (part == 0) {
            EXPECT_EQ(demo::read_tokenizer(file).size(), 512U);  // all metadata is in the first
        } else {
            EXPECT_THROW(static_cast<void>(demo::read_tokenizer(file)), demo::gguf_error);
        }
    }
    EXPECT_TRUE(is_taken("split.count", std::uint16_t{1}));
}

/// A few hundred kilobytes that would ask for gigabytes.
TEST(LlamaErrors, SmallFilesThatAskForMuchMemory) {
    const std::vector<std::string> parts{"a sequence of 1024 tokens would need", "bytes may ask for 2"};
    const auto refused = [&](const synthetic_llama& options, const std::string& what) {
        const auto bytes = demo::make_synthetic_llama(options).bytes();
        EXPECT_LT(bytes.size(), 6'000'000U);
        std::vector<std::string> all = parts;
        all.push_back(what);
        expect_refused(bytes, all);
    };
    synthetic_llama narrow{.layers = 1,
                           .width = 2,
                           .heads = 1,
                           .kv_heads = 1,
                           .head_dim = 2,
                           .feed_forward = 2,
                           .vocabulary = 400,
                           .matrices = tensor_type::f16};
    narrow.heads = narrow.kv_heads = 65536;
    refused(narrow, "65536 heads on 65536 KV heads of 2");
    narrow.kv_heads = 1;
    refused(narrow, "65536 heads on 1 KV heads of 2");
    narrow.heads = 1;
    narrow.feed_forward = 200000;
    refused(narrow, "feed-forward length 200000");
}

TEST(LlamaErrors, AbsurdSizesAreRefusedBeforeMemoryIsAskedFor) {
    constexpr std::uint64_t absurd = std::uint64_t{1} << 62;
    for (const char* key : {"llama.embedding_length", "llama.block_count", "llama.attention.head_count",
                            "llama.attention.head_count_kv", "llama.feed_forward_length", "llama.attention.key_length",
                            "llama.attention.value_length", "llama.rope.dimension_count"}) {
        expect_value_refused(key, absurd, {"4611686018427387904", "1 to 16777216 are supported"});
    }
    // Sizes that might be, were the tensors of that size: the first that is not is named.
    constexpr std::uint64_t large = 16777216;
    expect_refused(changed("llama.block_count", large), {"blk.2.attn_norm.weight"});
    expect_refused(changed("llama.feed_forward_length", large), {"blk.0.ffn_gate.weight", "16777216"});
    expect_refused(changed("llama.attention.key_length", large), {"blk.0.attn_q.weight"});
    expect_refused(changed("llama.embedding_length", large), {"token_embd.weight", "16777216"});
}

TEST(LlamaErrors, MissingKeys) {
    for (const char* key :
         {"general.architecture", "llama.embedding_length", "llama.block_count", "llama.attention.head_count",
          "llama.feed_forward_length", "llama.attention.layer_norm_rms_epsilon"}) {
        expect_refused(without(demo::make_synthetic_llama({}), key),
                       {"key '" + std::string(key) + "' is missing", "expected"});
    }
}

TEST(LlamaErrors, MissingTensors) {
    for (const char* name :
         {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight",
          "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight",
          "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"}) {
        expect_refused(without(demo::make_synthetic_llama({}), name), {name});
    }
    expect_refused(demo::make_synthetic_llama({.vocabulary_only = true}).bytes(), {"token_embd.weight"});
}

/// A model whose metadata speak of one shape and whose tensors have another.
std::vector<std::byte> mixed(const synthetic_llama& said, const synthetic_llama& is) {
    demo::gguf_writer writer;
    demo::synthetic::add_metadata(writer, said);
    demo::synthetic::add_llama_tokenizer(writer, said);
    demo::synthetic::add_tensors(writer, is);
    return writer.bytes();
}

TEST(LlamaErrors, TensorsOfAnotherShape) {
    expect_refused(mixed({.feed_forward = 100}, {}), {"blk.0.ffn_gate.weight", "100", "128"});
    expect_refused(mixed({.kv_heads = 1}, {}), {"blk.0.attn_k.weight", "16", "32"});
    expect_refused(mixed({.width = 32, .head_dim = 8}, {}), {"token_embd.weight", "32"});
    expect_refused(mixed({.head_dim = 12}, {}), {"blk.0.attn_q.weight", "48"});
    expect_refused(mixed({.value_dim = 12}, {}), {"blk.0.attn_v.weight", "24"});
    expect_refused(mixed({.layers = 3}, {}), {"blk.2."});
    expect_refused(mixed({.rope_dimensions = 8}, {.rope_freqs = true}), {"rope_freqs.weight", "4", "8"});

    demo::gguf_writer vector_for_a_matrix;
    demo::synthetic::add_metadata(vector_for_a_matrix, {});
    vector_for_a_matrix.add_tensor("token_embd.weight", tensor_type::f32, {64}, std::vector<float>(64));
    expect_refused(vector_for_a_matrix.bytes(), {"token_embd.weight", "64"});
}

TEST(LlamaErrors, TensorsBesideTheUsualOnesAreCheckedToo) {
    demo::gguf_writer short_bias = demo::make_synthetic_llama({});
    short_bias.add_tensor("blk.0.attn_q.bias", tensor_type::f32, {63}, std::vector<float>(63));
    expect_refused(short_bias.bytes(), {"blk.0.attn_q.bias", "63", "64"});

    demo::gguf_writer short_output = demo::make_synthetic_llama({.tied = true});
    short_output.add_tensor("output.weight", tensor_type::f32, {64, 500}, std::vector<float>(64 * 500));
    expect_refused(short_output.bytes(), {"output.weight", "500", "512"});

    demo::gguf_writer no_frequency = demo::make_synthetic_llama({});
    no_frequency.add_tensor("rope_freqs.weight", tensor_type::f32, {8}, std::vector<float>{1, 1, 1, 0, 1, 1, 1, 1});
    expect_refused(no_frequency.bytes(), {"rope_freqs.weight", "positive"});
}

}  // namespace llama_test
