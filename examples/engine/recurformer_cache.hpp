// The caches and cells of one sequence of a Llama whose heads are partly replaced (architecture recurformer).
//
//     demo::recurformer_cache<ms::tova> cache(model, model.cache_shape(512, 64), ms::tova{});
//     model.prefill(cache, tokens, 0, ms::prefill_mode::exact, hidden);
//
// A model without replaced heads runs with it, too: then it is one cache for each layer.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <multistate/core/parameter.hpp>
#include <multistate/recurrent/replaced_heads.hpp>

#include "llama.hpp"

namespace demo {

template <ms::policy P, ms::codec Codec = ms::f32>
class recurformer_cache {
  public:
    using layer_type = ms::replaced_heads<P, Codec>;

    /// `given` as model.cache_shape gives it. The model must outlive the cache.
    recurformer_cache(const llama& model, const ms::shape& given, const P& policy) : shape_(given) {
        for (std::size_t i = 0; i < given.layers; ++i) {
            layers_.emplace_back(one_layer(given), model.replacement(i), of_layer(policy, i));
        }
    }
    /// memory_bytes() of such a cache. Allocates nothing for states.
    static std::size_t bytes_for(const llama& model, const ms::shape& given, const P& policy) {
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < given.layers; ++i) {
            bytes += layer_type::bytes_for(one_layer(given), model.replacement(i), policy);
        }
        return bytes;
    }

    [[nodiscard]] const ms::shape& shape() const noexcept { return shape_; }
    [[nodiscard]] std::span<layer_type> layers() noexcept { return layers_; }
    [[nodiscard]] std::span<const layer_type> layers() const noexcept { return layers_; }

    void clear() noexcept {
        for (layer_type& each : layers_) each.clear();
    }
    [[nodiscard]] std::size_t memory_bytes() const noexcept {
        std::size_t bytes = 0;
        for (const layer_type& each : layers_) bytes += each.memory_bytes();
        return bytes;
    }

  private:
    static ms::shape one_layer(ms::shape s) noexcept {
        s.layers = 1;
        return s;
    }
    /// Each cache believes that it is layer 0, and random policies would draw the same in all.
    static P of_layer(P policy, std::size_t i) {
        ms::for_each_parameter(policy, [&]<class T>(std::string_view name, T& value, auto&&, auto&&) {
            if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
                if (name == "seed") value += static_cast<T>(i);
            }
        });
        return policy;
    }

    ms::shape shape_;
    std::vector<layer_type> layers_;
};

}  // namespace demo
