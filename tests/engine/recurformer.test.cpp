// Models whose heads are partly served by recurrent cells: likelihoods and decisions are those of the naive model, and
// a file that contradicts itself gets one sentence.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policy/one_of.hpp>

#include "engine/naive_llama.hpp"
#include "engine/synthetic_gguf.hpp"
#include "gguf.hpp"
#include "recurformer_cache.hpp"
#include "support/temporary_folder.hpp"

namespace recurformer_test {

using demo::gguf;
using demo::llama;
using demo::matrix;
using demo::synthetic_llama;
using demo::token;
namespace ms = multistate;

/// One type for all: each costs a compilation of the kernels.
using some_policy = ms::one_of<ms::full, ms::window, ms::tova, ms::tova_head, ms::h2o>;
using cache_type = demo::recurformer_cache<some_policy>;

constexpr double rounding = 1e-4;  // see llama.test.cpp

/// 3 layers of 8 query heads on 4 KV heads. Layer 0 loses a group and half of another, layer 1 nothing, layer 2 all.
synthetic_llama usual(const std::string& cell) {
    synthetic_llama options{.layers = 3, .heads = 8, .kv_heads = 4, .head_dim = 8};
    options.replaced = {0, 1, 5, 16, 17, 18, 19, 20, 21, 22, 23};
    options.cell = cell;
    return options;
}

std::vector<token> random_tokens(std::size_t count, std::size_t vocabulary) {
    demo::random_numbers random(5);
    std::vector<token> tokens(count);
    for (token& each : tokens) each = static_cast<token>(random.below(vocabulary));
    return tokens;
}

struct feeding {
    std::size_t states, block, threads;
    ms::prefill_mode mode = ms::prefill_mode::exact;
};

/// Likelihoods of the engine; `cache` is left with the last states.
std::vector<double> engine_nll(llama& model, cache_type& cache, std::span<const token> tokens, ms::prefill_mode mode) {
    matrix hidden;
    std::vector<double> nll(tokens.size() - 1);
    const std::size_t block = cache.shape().block;
    for (std::size_t first = 0; first < tokens.size(); first += block) {
        const std::size_t count = std::min(block, tokens.size() - first);
        EXPECT_TRUE(model.prefill(cache, tokens.subspan(first, count), static_cast<ms::position>(first), mode, hidden));
        const std::size_t predicted = std::min(count, tokens.size() - 1 - first);
        model.negative_log_likelihoods(hidden, tokens.subspan(first + 1, predicted),
                                       std::span(nll).subspan(first, predicted));
    }
    return nll;
}

void expect_equal(const synthetic_llama& options, const std::string& policy, const feeding& how) {
    SCOPED_TRACE(options.cell + " " + policy + " block " + std::to_string(how.block));
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", options);
    const gguf file(folder / "model.gguf");
    const std::vector<token> tokens = random_tokens(60, options.vocabulary);
    const demo::naive_llama naive(file);
    const auto expected = naive.run(tokens, {.name = policy, .states = how.states});
    ASSERT_GT(expected.margin, 1e-5) << "choose another seed";

    ms::thread_pool pool(how.threads);
    llama model(file, pool);
    cache_type cache(model, model.cache_shape(how.states, how.block), some_policy::named(policy));
    const auto nll = engine_nll(model, cache, tokens, how.mode);
    ASSERT_EQ(nll.size(), expected.nll.size());
    for (std::size_t i = 0; i < nll.size(); ++i) ASSERT_NEAR(nll[i], expected.nll[i], rounding) << "token " << i;

    cache.clear();
    EXPECT_EQ(engine_nll(model, cache, tokens, how.mode), nll);
}

TEST(Recurformer, LikelihoodsAreThoseOfTheNaiveModel) {
    for (const char* cell : {"selective", "min_gru"}) {
        expect_equal(usual(cell), "full", {.states = 60, .block = 1, .threads = 1});
        expect_equal(usual(cell), "full", {.states = 60, .block = 17, .threads = 2});
    }
    synthetic_llama other = usual("selective");
    other.value_dim = 6;
    other.biases = true;
    other.expansion = 1;
    other.convolution = 1;
    other.matrices = demo::tensor_type::f16;
    expect_equal(other, "full", {.states = 60, .block = 60, .threads = 2});
}

TEST(Recurformer, KeptHeadsForgetAsTheNaiveModelDoes) {
    for (const char* policy : {"window", "tova", "tova_head", "h2o"}) {
        expect_equal(usual("selective"), policy, {.states = 16, .block = 1, .threads = 1});
        expect_equal(usual("min_gru"), policy, {.states = 16, .block = 7, .threads = 2});
    }
}

/// Nothing is replaced: the same caches, layer by layer.
TEST(Recurformer, ALlamaRunsAsOne) {
    synthetic_llama options = usual("selective");
    options.replaced.clear();
    expect_equal(options, "tova", {.states = 16, .block = 7, .threads = 1});
}

TEST(Recurformer, NeedsACacheOfItsOwn) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", usual("selective"));
    const gguf file(folder / "model.gguf");
    ms::thread_pool pool(1);
    llama model(file, pool);
    ms::cache<some_policy> cache(model.cache_shape(16, 4));
    matrix hidden;
    const std::vector<token> tokens{1, 2};
    EXPECT_THROW((void)model.prefill(cache, tokens, 0, ms::prefill_mode::exact, hidden), std::logic_error);
}

/// A model with replaced heads costs the bytes of the KV heads that are left, and of the cells' states.
TEST(Recurformer, MemoryIsThatOfKeptGroups) {
    const demo::temporary_folder folder;
    demo::write_synthetic_llama(folder / "model.gguf", usual("selective"));
    const gguf file(folder / "model.gguf");
    ms::thread_pool pool(1);
    const llama model(file, pool);
    const auto bytes = [&](std::size_t states) {
        return cache_type(model, model.cache_shape(states, 1), ms::full{}).memory_bytes();
    };
    // layer 0 keeps 3 KV heads, layer 1 keeps 4, layer 2 none; a key and a value have 16 floats each as stored. Tables
    // have a few numbers for each state.
    const double each = static_cast<double>(bytes(4096) - bytes(2048)) / 2048;
    EXPECT_GE(each, 7 * 2 * 16 * 4);
    EXPECT_LE(each, 7 * 2 * 16 * 4 + 3 * 16);
}

void expect_refused(const demo::gguf_writer& writer, const std::vector<std::string>& parts) {
    SCOPED_TRACE(parts.front());
    const demo::temporary_folder folder;
    writer.write(folder / "model.gguf");
    const gguf file(folder / "model.gguf");
    ms::thread_pool pool(1);
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
void expect_refused(const synthetic_llama& options, const std::vector<std::string>& parts) {
    expect_refused(demo::make_synthetic_llama(options), parts);
}

TEST(RecurformerErrors, HeadsThatContradictTheFile) {
    synthetic_llama options = usual("selective");
    options.replaced = {3, 24};
    expect_refused(options, {"key 'recurformer.replaced_heads.heads' names head 24",
                             "3 layers of 8 query heads have heads 0 to 23"});
    options.replaced = {3, 3};
    expect_refused(options, {"names head 3 after 3; the heads must rise"});
    options.replaced = {5, 4};
    expect_refused(options, {"names head 4 after 5"});

    // the tensors of one set of heads, the key of another
    const auto with_heads = [](const std::vector<std::uint32_t>& heads) {
        synthetic_llama right = usual("selective");
        demo::gguf_writer writer;
        synthetic_llama claimed = right;
        claimed.replaced = heads;
        demo::synthetic::add_metadata(writer, claimed);
        demo::synthetic::add_llama_tokenizer(writer, right);
        demo::synthetic::add_tensors(writer, right);
        return writer;
    };
    expect_refused(with_heads({0, 1, 5}), {"tensor 'blk.2.attn_q.weight' is missing"});
    expect_refused(with_heads({0, 2, 4, 16, 17, 18, 19, 20, 21, 22, 23}), {"blk.0.attn_k.weight", "24", "32"});
    expect_refused(with_heads({0, 1, 16, 17, 18, 19, 20, 21, 22, 23}), {"blk.0.attn_q.weight"});
    expect_refused(with_heads({0, 1, 5, 8, 16, 17, 18, 19, 20, 21, 22, 23}), {"blk.1.attn_q.weight"});
}

TEST(RecurformerErrors, KeysOfTheCell) {
    synthetic_llama options = usual("gru");
    expect_refused(options, {"'recurformer.replaced_heads.cell'", "gru", "selective and min_gru are supported"});
    options = usual("selective");
    options.convolution = 17;
    expect_refused(options, {"'recurformer.replaced_heads.convolution' is 17", "1 to 16 are supported"});
    options.convolution = 4;
    options.state_size = 257;
    expect_refused(options, {"'recurformer.replaced_heads.state_size' is 257", "1 to 256"});
    demo::gguf_writer writer = demo::make_synthetic_llama(usual("min_gru"));
    writer.add("recurformer.replaced_heads.state_size", std::uint32_t{4});
    expect_refused(writer, {"'recurformer.replaced_heads.state_size'", "a min_gru cell has no such key"});
    writer = demo::make_synthetic_llama(usual("selective"));
    writer.add("recurformer.replaced_heads.depth", std::uint32_t{4});
    expect_refused(writer, {"'recurformer.replaced_heads.depth'", "a selective cell has no such key"});
    // a Llama that has a cell, and a number that is none
    writer = demo::make_synthetic_llama({});
    const std::vector<float> weights(64, 1.0F);
    writer.add_tensor("blk.0.replaced.skip.weight", demo::tensor_type::f32, {64}, weights);
    expect_refused(writer, {"blk.0.replaced.skip.weight"});
}

}  // namespace recurformer_test
