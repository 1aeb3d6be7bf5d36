#pragma once

// Layers that decode, as a model's do: their caches are full, and enough of them take turns that keys and values come
// from DRAM.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <multistate/multistate.hpp>

#include "interleaved.hpp"
#include "memory.hpp"
#include "names.hpp"

namespace bench {

namespace ms = multistate;

/// What the benchmarks vary in a layer.
struct layer_shape {
    std::size_t heads;
    std::size_t kv_heads;
    std::size_t states;
    std::size_t head_dim = 128;
    std::size_t slack = 0;

    /// "32x8/512", as in the names of benchmarks.
    std::string name() const {
        return joined(std::to_string(heads).append("x").append(std::to_string(kv_heads)), states);
    }
};

/// "f16", or "int8+int4" where values are stored in another way than keys.
template <class Keys, class Values>
std::string codec_name() {
    if constexpr (std::is_same_v<Keys, Values>) return std::string(Keys::name);
    return std::string(Keys::name).append("+").append(Values::name);
}

/// What a row of keys or values weighs, scales and padding included: asked of a real one, whatever the codec.
template <class Codec>
std::size_t row_bytes(std::size_t dimension) {
    constexpr std::size_t rows = 4096;
    return ms::storage<Codec>(1, rows, dimension).memory_bytes() / rows;
}

/// Bytes of keys and values that attention to n states must read.
template <class Keys, class Values = Keys>
std::size_t bytes_of(const layer_shape& l, std::size_t n) {
    return l.kv_heads * n * (row_bytes<Keys>(l.head_dim) + row_bytes<Values>(l.head_dim));
}

/// Different keys or values for 61 tokens in a row; the text repeats them.
class endless_text {
  public:
    endless_text(std::size_t width, unsigned seed) : width_(width), floats_(random_floats(tokens * width, seed)) {}
    std::span<const float> token(ms::position p) const noexcept {
        return std::span(floats_).subspan(static_cast<std::size_t>(p) % tokens * width_, width_);
    }

  private:
    static constexpr std::size_t tokens = 61;
    std::size_t width_;
    std::vector<float> floats_;
};

/// A step that was refused was not measured.
inline void must(bool done) noexcept {
    if (!done) std::abort();
}

/// Brings a layer to that many rows. Attention would take minutes: policies are shown equal probabilities.
void fill(auto layer, std::size_t rows, std::span<const float> q, const endless_text& k, const endless_text& v) {
    const std::vector<float> equal(rows, 1 / static_cast<float>(rows));
    while (layer.size() < rows) {
        const ms::position p = layer.next_position();
        must(layer.append(p, k.token(p), v.token(p)));
        layer.observe_queries(q);
        layer.observe(ms::rows{equal.data(), layer.shape().heads, layer.size(), 0});
    }
}

/// Where the layers of a rotation lie: in one cache, as a model's do, or each in a cache of its own.
enum class layers_of { one_cache, many_caches };

/// Full layers, all alike at first, and one scratch for all. Each call of step or attend takes the next; the two run
/// half a rotation apart, so that neither warms the other's keys. What takes compilers long is compiled once, in
/// decoder.cpp.
template <class Keys, class Values = Keys>
class decoder {
  public:
    using cache = ms::cache<ms::any_policy, Keys, Values>;

    /// As many layers as make a rotation cold, or as many as given.
    decoder(const ms::any_policy& policy, const layer_shape& l, std::size_t count = 0,
            layers_of where = layers_of::one_cache);

    /// Keys and values of one layer of that kind, with the rows that it does not use at the moment.
    static std::size_t memory_bytes(const ms::any_policy& policy, const layer_shape& l) {
        return bytes_of<Keys, Values>(l, l.states + shape(policy, l, 1).block);
    }

    ms::shape shape() const { return caches_.front().shape(); }
    std::span<const float> query() const { return q_; }
    std::size_t count() const { return caches_.size() * shape().layers; }
    /// States that a step attends to.
    std::size_t size() const { return caches_.front().layer(0).size(); }
    std::size_t bytes() const { return bytes_of<Keys, Values>(layer_, size()); }

    /// Untimed, before each turn: a policy that never forgets starts again when its rows are used up.
    void prepare();
    void step() noexcept;
    void attend() noexcept;

    /// A step with its tasks run by an executor.
    template <class Executor>
    void step(Executor& run) noexcept {
        step(layer(step_at_), out_, scratch_, run);
        step_at_ = (step_at_ + 1) % count();
    }
    /// A step of each of the next layers, which stand for sequences: whole steps are the tasks.
    template <class Executor>
    void step_sequences(std::size_t sequences, Executor& run) noexcept {
        while (scratches_.size() < sequences) scratches_.emplace_back(shape());
        outs_.resize(sequences, out_);
        run.run(sequences, [&](std::size_t i) {
            ms::serial alone;
            step(layer((step_at_ + i) % count()), outs_[i], scratches_[i], alone);
        });
        step_at_ = (step_at_ + sequences) % count();
    }

  private:
    using layer_type = ms::cache_layer<cache>;

    void fill_first();
    layer_type layer(std::size_t i) noexcept { return caches_[i % caches_.size()].layer(i / caches_.size()); }
    template <class Executor>
    void step(const layer_type& l, std::span<float> out, ms::workspace& scratch, Executor& run) noexcept {
        const ms::position p = l.next_position();
        must(ms::step(l, p, {q_, k_.token(p), v_.token(p)}, out, scratch, run));
    }
    static ms::shape shape(const ms::any_policy& policy, const layer_shape& l, std::size_t layers) {
        return {.layers = layers,
                .heads = l.heads,
                .kv_heads = l.kv_heads,
                .head_dim = l.head_dim,
                .states = l.states,
                // room to go on for a while without forgetting
                .block = policy.forgets() == ms::per::never ? std::size_t{32} : std::size_t{1},
                .slack = l.slack};
    }

    layer_shape layer_;
    bool never_forgets_;
    std::vector<cache> caches_;
    ms::workspace scratch_;
    std::vector<float> q_;
    endless_text k_, v_;
    std::vector<float> out_;
    std::vector<ms::workspace> scratches_;  // of step_sequences
    std::vector<std::vector<float>> outs_;
    std::size_t step_at_ = 0;
    std::size_t attend_at_ = 0;
};

}  // namespace bench
