// The engine: its likelihoods are those of the naive model on every shape of file, and a file that it cannot run gets
// one sentence.
#include "llama.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include <gtest/gtest.h>

#include "gguf.hpp"
#include "perplexity/naive_llama.hpp"
#include "perplexity/synthetic_gguf.hpp"
#include "perplexity/temporary_folder.hpp"
#include "read_vocabulary.hpp"

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
         {.rope_dimensions = 10,
          .scaling_type = "yarn",
          .scaling_factor = 4.0F,
          .original_context = 512,
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

TEST(Llama, LegacyRopeScaleIsReadToo) {
    const demo::temporary_folder folder;
    auto writer = demo::make_synthetic_llama({});
    writer.add("llama.rope.scale_linear", 8.0F);
    writer.write(folder / "model.gguf");
    const gguf file(folder / "model.gguf");
    const auto tokens = random_tokens(30, 512, 5);
    expect_near(engine_nll(file, tokens, 30), demo::naive_llama(file).run(tokens, {}).nll, rounding);

    demo::write_synthetic_llama(folder / "other.gguf", {.rope_scale = 8.0F});
    EXPECT_EQ(engine_nll(file, tokens, 30), engine_nll(gguf(folder / "other.gguf"), tokens, 30));
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
        reached.push_back(cache.next_position(layer));
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
    expect_value_refused("general.architecture", "gemma2", {"gemma2", "only llama is supported"});
    expect_value_refused("general.architecture", std::uint32_t{3}, {"3", "expected a string"});
    expect_value_refused("llama.expert_count", std::uint32_t{8}, {"8", "experts"});
    expect_value_refused("llama.rope.scaling.type", "yarn", {"yarn", "none and linear"});
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
    for (const char* key : {"general.architecture", "llama.embedding_length", "llama.block_count",
                            "llama.attention.head_count", "llama.feed_forward_length"}) {
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
