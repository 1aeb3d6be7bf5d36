#pragma once

// What attention.hpp, prefill.hpp and adaptive_budget.hpp need of a cache beyond its public interface: they take its
// tables, and decisions, one at a time. No one else includes it.
#include "multistate/cache.hpp"

namespace multistate::inline MULTISTATE_TARGET {

namespace detail {

struct cache_access {
    template <class C>
    static bool has_room(const C& cache, std::size_t layer, std::size_t tokens) noexcept {
        return cache.has_room(layer, tokens);
    }
    template <class C>
    static void append_next(C& cache, std::size_t layer, std::size_t unit, position first, std::size_t tokens,
                            std::span<const float> k, std::span<const float> v) noexcept {
        cache.append_next(layer, unit, first, tokens, k, v);
    }
    template <class C>
    static std::size_t largest(const C& cache, std::size_t layer) noexcept {
        return cache.largest(layer);
    }
    template <class C>
    static auto tables(C& cache, std::size_t layer) noexcept {
        return std::span(cache.tables_).subspan(layer * cache.per_layer_, cache.per_layer_);
    }
    /// For reading only: so a constant cache will do.
    template <class C>
    static editor stored(const C& cache, std::size_t layer, std::size_t unit) noexcept {
        return const_cast<C&>(cache).stored(layer, unit);
    }
    template <class C>
    static void forget_next(C& cache, std::size_t layer, std::size_t unit) noexcept {
        cache.relocate(layer, unit, tables(cache, layer)[unit].forget_next(cache.stored(layer, unit)));
    }
    template <class C>
    static void relocate(C& cache, std::size_t layer, std::size_t unit, std::span<const move> moves) noexcept {
        cache.relocate(layer, unit, moves);
    }
    template <class C>
    static void write(C& cache, std::size_t layer, std::size_t unit, std::size_t row, std::size_t token,
                      std::span<const float> k, std::span<const float> v) noexcept {
        cache.write(layer, unit, row, token, k, v);
    }
    template <class C>
    static rows query_rows(const C& cache, std::size_t unit, std::size_t token, std::span<const float> q) noexcept {
        return cache.query_rows(unit, token, q);
    }
    template <class C>
    static rows key_rows(const C& cache, std::size_t unit, std::size_t token, std::span<const float> k) noexcept {
        return cache.key_rows(unit, token, k);
    }
    template <class C>
    static rows value_rows(const C& cache, std::size_t unit, std::size_t token, std::span<const float> v) noexcept {
        return cache.value_rows(unit, token, v);
    }
};

}  // namespace detail
}  // namespace multistate::inline MULTISTATE_TARGET
