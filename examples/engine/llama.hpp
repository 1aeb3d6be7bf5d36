// A Llama in a GGUF file, run over blocks of tokens with a bounded cache: the engine of the demo.
//
//     const demo::gguf file("model.gguf");
//     ms::thread_pool pool(2);
//     demo::llama model(file, pool);                                   // throws gguf_error
//     ms::cache<ms::any_policy> cache(model.cache_shape(512, 64), ms::tova{});
//     model.prefill(cache, tokens, 0, ms::prefill_mode::exact, hidden) // hidden [tokens, width]
//     model.negative_log_likelihoods(hidden, targets, nll);            // nll [tokens]
//     model.decode(std::span(caches), tokens, positions, hidden);      // one token for each of several sequences
//
// It uses multistate as any engine would, through its public headers: project, rotate, ms::prefill, go on. A Llama whose
// heads are partly replaced by recurrent cells needs a recurformer_cache instead (recurformer_cache.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <multistate/execution/thread_pool.hpp>
#include <multistate/multistate.hpp>
#include <multistate/recurrent/replaced_heads.hpp>

#include "gguf.hpp"
#include "llama_config.hpp"
#include "tokenizer.hpp"

namespace demo {

namespace ms = multistate;

/// [rows, columns], a token or an output feature per row.
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// y = W x + b, with W as it lies in the file or, where the model is small, decoded once.
class linear {
  public:
    enum class bias { none, optional };

    /// NAME.weight [rows, columns] must be there, NAME.bias [rows] may be.
    linear(tensor_reader& tensors, const std::string& name, std::size_t columns, std::size_t rows, bias wanted);
    /// Decodes all of W, throws gguf_error if a weight is not finite, and keeps it if told so. Before any use.
    void decode(const gguf& file, bool keep);

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
    /// Row i as floats.
    void read_row(std::size_t i, std::span<float> out) const;
    /// Panels of rows that are multiplied as one task.
    [[nodiscard]] std::size_t panels() const noexcept { return (rows_ + panel - 1) / panel; }
    /// y[:, panel i] = x W[panel i]^T + b[panel i], or += with `accumulate`.
    void multiply_panel(std::size_t i, const matrix& x, matrix& y, bool accumulate) const;

  private:
    static constexpr std::size_t panel = 128;  // wide enough for Eigen, narrow enough to share

    [[nodiscard]] std::size_t panel_rows(std::size_t i) const { return std::min(panel, rows_ - i * panel); }
    /// W[panel i].
    [[nodiscard]] matrix decode_panel(std::size_t i) const;

    const tensor_view* tensor_;
    std::size_t rows_;
    std::size_t columns_;
    std::vector<matrix> decoded_;  // W[panel i]^T, whose columns Eigen packs faster; empty: decoded at each use
    std::vector<float> bias_;      // empty: none
};

/// One call at a time; a copy shares the weights and may run beside the original.
class llama {
  public:
    /// Both must outlive the model.
    llama(const gguf& file, ms::thread_pool& pool);

    [[nodiscard]] ms::thread_pool& pool() const noexcept { return pool_; }
    [[nodiscard]] const llama_config& config() const noexcept { return config_; }
    /// What the reader of results should know: what is in the file and was ignored.
    [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }
    /// The rotation of queries and keys; refers to weights that this model shares with its copies.
    [[nodiscard]] const ms::rope& rope() const noexcept { return rope_; }

    /// The shape of a cache for this model.
    [[nodiscard]] ms::shape cache_shape(std::size_t states, std::size_t block) const;

    /// The heads of layer i that a recurrent cell serves; the cell refers to weights that this model shares with copies.
    [[nodiscard]] ms::replacement replacement(std::size_t i) const;

    /// Runs tokens of positions first, first + 1, … and leaves their final hidden states in `hidden` [tokens, width].
    /// Each layer works on all tokens at once, but its attention on one block of the cache after the other; after each
    /// comes attended(layer). Returns false if the cache has no room, which only `full` can say.
    template <class Cache, class Attended>
    bool prefill(Cache& cache, std::span<const token> tokens, ms::position first, ms::prefill_mode mode, matrix& hidden,
                 Attended&& attended);
    template <class Cache>
    bool prefill(Cache& cache, std::span<const token> tokens, ms::position first, ms::prefill_mode mode,
                 matrix& hidden) {
        return prefill(cache, tokens, first, mode, hidden, [](std::size_t) {});
    }

    /// One token for each of several sequences, token i at positions[i] of caches[i]: the weights are multiplied with all
    /// of them at once, the threads share the sequences for attention. Leaves final hidden states in `hidden`
    /// [sequences, width]. Caches of one shape. Returns false and changes nothing if one has no room, which only `full`
    /// can say. Throws std::logic_error if the model cannot use the caches, or if the spans differ in length.
    template <class Cache>
    bool decode(std::span<Cache> caches, std::span<const token> tokens, std::span<const ms::position> positions,
                matrix& hidden);

    /// Of rows [first, first + count) of `hidden`, in `out` [count, vocabulary]. `first + count` may be at most its rows.
    void logits(const matrix& hidden, std::size_t first, std::size_t count, matrix& out);
    /// nll[i] = -log p(targets[i] | hidden[i]), in nats.
    void negative_log_likelihoods(const matrix& hidden, std::span<const token> targets, std::span<double> nll);

  private:
    /// Of the heads that attend; none where all heads of a layer are replaced.
    struct projections {
        linear query, key, value;
    };
    struct layer {
        std::vector<float> attention_norm, feed_forward_norm;
        std::optional<projections> attending;
        linear output, gate, up, down;
        std::vector<std::size_t> replaced;  // heads that the cell serves
        std::vector<float> cell_parameters;
        std::optional<ms::replacing_cell> cell;

        template <class F>
        void for_each_matrix(F f) {
            if (attending) std::ranges::for_each(std::array{&attending->query, &attending->key, &attending->value}, f);
            std::ranges::for_each(std::array{&output, &gate, &up, &down}, f);
        }
    };

    struct parts {
        linear embedding;
        std::vector<layer> layers;
        std::vector<linear> separate_output;  // empty: tied to the embedding
        std::vector<float> rope_factors;      // [rope_dim / 2], frequencies are divided by them; empty: none
    };

    void read_weights(const gguf& file);
    layer read_layer(tensor_reader& tensors, std::size_t index) const;
    [[nodiscard]] std::vector<float> read_rope_factors(tensor_reader& tensors) const;
    void read_cell(tensor_reader& tensors, std::size_t index, layer& into) const;
    /// Room for calls on this cache; throws std::logic_error if the model cannot use it.
    template <class Cache>
    void prepare(const Cache& cache);
    /// Attention of one layer for the rows of query_, key_ and value_, each with its own cache.
    template <class Cache>
    void attend_each(std::size_t layer_index, std::span<Cache> caches, std::span<const ms::position> positions);
    void set_rotations(std::span<const ms::position> positions);
    void embed(std::span<const token> tokens, matrix& hidden);
    void project(const layer& part, const matrix& hidden);
    void feed_forward(const layer& part, matrix& hidden);
    void normalize(const Eigen::Ref<const matrix>& x, std::span<const float> weight, matrix& y);
    void rotate(matrix& heads_of_tokens, std::size_t heads);
    void multiply(std::initializer_list<const linear*> weights, const matrix& x, std::initializer_list<matrix*> y,
                  bool accumulate = false);

    ms::thread_pool& pool_;
    std::vector<std::string> notes_;
    llama_config config_;  // adds to the notes
    std::vector<float> final_norm_;
    std::shared_ptr<const parts> weights_;
    ms::rope rope_;  // refers to the weights

    // scratch of one block, [tokens, …]
    std::optional<ms::workspace> scratch_;   // of attention, for the caches of the last call
    std::vector<ms::workspace> scratch_of_;  // the same for decode, one for each thread
    std::vector<ms::position> positions_;    // of the tokens of a block
    ms::replaced_heads_workspace mixed_scratch_;
    matrix normal_, query_, key_, value_, attended_, gate_, up_, logits_, turns_;
};

template <class Cache>
void llama::prepare(const Cache& cache) {
    if constexpr (requires { cache.layers(); }) {
        for (const auto& each : cache.layers()) mixed_scratch_.reserve(each);
    } else {
        if (config_.replaced) throw std::logic_error("a recurformer needs a recurformer_cache");
        if (!scratch_ || !scratch_->fits(cache.shape())) scratch_.emplace(cache.shape());
    }
}

template <class Cache, class Attended>
bool llama::prefill(Cache& cache, std::span<const token> tokens, ms::position first, ms::prefill_mode mode,
                    matrix& hidden, Attended&& attended) {
    prepare(cache);
    const auto rows = [](auto& m, std::size_t begin, std::size_t count) {
        const auto width = static_cast<std::size_t>(m.cols());
        return std::span(m.data(), static_cast<std::size_t>(m.size())).subspan(begin * width, count * width);
    };
    embed(tokens, hidden);
    positions_.resize(tokens.size());
    std::iota(positions_.begin(), positions_.end(), first);
    set_rotations(positions_);
    attended_.resize(hidden.rows(), static_cast<Eigen::Index>(config_.heads * config_.value_dim));
    for (std::size_t i = 0; i < weights_->layers.size(); ++i) {
        project(weights_->layers[i], hidden);
        for (std::size_t begin = 0; begin < tokens.size(); begin += cache.shape().block) {
            const std::size_t count = std::min(cache.shape().block, tokens.size() - begin);
            const auto input = [&](const matrix& m) { return rows(m, begin, count); };
            const ms::position at = first + static_cast<ms::position>(begin);
            const auto out = rows(attended_, begin, count);
            bool done = false;
            if constexpr (requires { cache.layers(); }) {
                auto& mixed = cache.layers()[i];
                const auto x = mixed.cell() ? input(normal_) : std::span<const float>{};
                done =
                    mixed.prefill(at, {x, input(query_), input(key_), input(value_)}, out, mixed_scratch_, mode, pool_);
            } else {
                done = ms::prefill(cache.layer(i), at, {input(query_), input(key_), input(value_)}, out, *scratch_,
                                   mode, pool_);
            }
            if (!done) return false;
            attended(i);
        }
        multiply({&weights_->layers[i].output}, attended_, {&hidden}, true);
        feed_forward(weights_->layers[i], hidden);
    }
    return true;
}

template <class Cache>
bool llama::decode(std::span<Cache> caches, std::span<const token> tokens, std::span<const ms::position> positions,
                   matrix& hidden) {
    if (config_.replaced) throw std::logic_error("decode needs attention in all heads");
    if (tokens.size() != caches.size() || positions.size() != caches.size()) {
        throw std::logic_error("decode needs one token and one position for each cache");
    }
    const std::size_t layers = weights_->layers.size();
    for (Cache& cache : caches) {
        for (std::size_t i = 0; i < layers; ++i) {
            if (!cache.layer(i).has_room(1)) return false;
        }
    }
    const auto fits = [&](const ms::workspace& scratch) {
        return std::ranges::all_of(caches, [&](const Cache& cache) { return scratch.fits(cache.shape()); });
    };
    if (!caches.empty() && (scratch_of_.empty() || !fits(scratch_of_.front()))) {
        scratch_of_.assign(pool_.threads(), ms::workspace(caches.front().shape()));
        if (!fits(scratch_of_.front())) throw std::logic_error("decode needs caches of one shape");
    }
    embed(tokens, hidden);
    set_rotations(positions);
    attended_.resize(hidden.rows(), static_cast<Eigen::Index>(config_.heads * config_.value_dim));
    for (std::size_t i = 0; i < layers; ++i) {
        project(weights_->layers[i], hidden);
        attend_each(i, caches, positions);
        multiply({&weights_->layers[i].output}, attended_, {&hidden}, true);
        feed_forward(weights_->layers[i], hidden);
    }
    return true;
}

template <class Cache>
void llama::attend_each(std::size_t layer_index, std::span<Cache> caches, std::span<const ms::position> positions) {
    const auto row = [](auto& m, std::size_t i) {
        const auto width = static_cast<std::size_t>(m.cols());
        return std::span(m.data() + i * width, width);
    };
    std::atomic<std::size_t> next = 0;  // a worker that is done takes the next sequence, with its own scratch
    pool_.run(scratch_of_.size(), [&](std::size_t worker) {
        for (std::size_t i = next++; i < caches.size(); i = next++) {
            const ms::qkv in{row(query_, i), row(key_, i), row(value_, i)};
            static_cast<void>(ms::step(caches[i].layer(layer_index), positions[i], in, row(attended_, i),
                                       scratch_of_[worker]));  // there is room
        }
    });
}

}  // namespace demo
