#pragma once

// A policy chosen at run time, itself a policy: everything that takes one takes it unchanged.
//
//     using mine = ms::one_of<ms::window, ms::tova, decayed>;
//     ms::cache<mine> cache(shape, mine::named("tova"));     // or mine(decayed{.decay = 0.9f})
//
// Costs a call and a comparison per choice for each hook; a hook that the chosen policy does not have does nothing.
#include <array>
#include <concepts>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <policy... Policies>
class one_of {
  public:
    /// The names of the choices, in order.
    static constexpr std::array<std::string_view, sizeof...(Policies)> names{Policies::name...};

    one_of() = default;
    template <class P>
    requires(std::same_as<P, Policies> || ...)  // not `policy P`, which would ask whether one_of is copyable
        one_of(P policy)
    noexcept : chosen_(std::move(policy)) {}

    /// The policy of that name with its default parameters, or "policy:preset"; throws std::invalid_argument that lists
    /// the names.
    static one_of named(std::string_view name) {
        one_of result;
        bool found = false;
        std::string known = "one of";
        for_each_name([&](const std::string& one, auto make) {
            known.append(known.size() == 6 ? " " : ", ").append(one);
            if (one == name) result.chosen_ = make();
            found = found || one == name;
        });
        if (!found) detail::refuse("one_of", "name", known, std::string("'").append(name).append("'"));
        return result;
    }
    /// All that named() takes: the names of the choices, each with those of its presets behind it.
    static std::vector<std::string> all_names() {
        std::vector<std::string> result;
        for_each_name([&](const std::string& one, auto) { result.push_back(one); });
        return result;
    }

    std::string_view name() const noexcept {
        return visit([]<class P>(const P&) { return P::name; });
    }
    /// The paper that the chosen policy names, or nothing.
    std::string_view paper() const noexcept {
        return visit([]<class P>(const P&) -> std::string_view {
            if constexpr (requires { P::paper; }) {
                return P::paper;
            } else {
                return {};
            }
        });
    }
    template <class F>
    void for_each_parameter(F&& f) {
        visit([&](auto& p) { multistate::for_each_parameter(p, f); });
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        visit([&](const auto& p) { multistate::for_each_parameter(p, f); });
    }
    per forgets() const noexcept {
        return visit([](const auto& p) { return p.forgets(); });
    }
    bool reads_attention() const noexcept {
        return visit([](const auto& p) { return multistate::reads_attention(p); });
    }
    bool reads_queries() const noexcept {
        return visit([](const auto& p) { return multistate::reads_queries(p); });
    }
    bool reads_arrivals() const noexcept {
        return visit([](const auto& p) { return multistate::reads_arrivals(p); });
    }
    bool reads_order() const noexcept {
        return visit([](const auto& p) { return multistate::reads_order(p); });
    }
    bool reads_stored() const noexcept {
        return visit([](const auto& p) { return multistate::reads_stored(p); });
    }
    bool scores_are_comparable() const noexcept {
        return visit([](const auto& p) { return multistate::scores_are_comparable(p); });
    }
    void check_shape(const table_shape& s) const {
        visit([&](const auto& p) { multistate::check_shape(p, s); });
    }
    guards default_guards(std::size_t states) const noexcept {
        return visit([=](const auto& p) { return multistate::default_guards(p, states); });
    }
    struct memory {};  // that of the choice
    void lay_out(memory&, layout& l) const noexcept {
        visit([&](const auto& p) { l.part(p); });
    }

    // Defined outside, and not inlined: the hooks of all policies wherever a table calls one would take compilers
    // minutes.
    MULTISTATE_NOINLINE void on_insert(rows keys, rows values, view states, std::size_t row) noexcept
        requires(observes_insertion<Policies> || ...);
    MULTISTATE_NOINLINE void on_query(rows queries, view states) noexcept requires(observes_queries<Policies> || ...);
    MULTISTATE_NOINLINE void on_attention(rows probabilities, view states) noexcept
        requires(observes_attention<Policies> || ...);
    MULTISTATE_NOINLINE void on_forget(const reader& stored, view states) noexcept
        requires(observes_decision<Policies> || ...);
    MULTISTATE_NOINLINE void on_compare(view states) noexcept requires(observes_comparison<Policies> || ...);
    MULTISTATE_NOINLINE void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) noexcept
        requires(merges<Policies> || ...);
    MULTISTATE_NOINLINE void finish_prompt(const reader& stored, view states) noexcept
        requires(observes_prompt_end<Policies> || ...);

  private:
    template <class F>
    static void for_each_name(F f) {
        (names_of<Policies>(f), ...);
    }
    template <class P, class F>
    static void names_of(F& f) {
        const std::string own(P::name);
        f(own, [] { return P{}; });
        if constexpr (has_presets<P>) {
            for (const auto& one : P::presets) f(own + ":" + std::string(one.name), one.make);
        }
    }

    // Not std::visit, which may throw and so has no place in a decoding step.
    template <class F>
    auto visit(F&& f) {
        return visit(chosen_, f, std::index_sequence_for<Policies...>());
    }
    template <class F>
    auto visit(F&& f) const {
        return visit(chosen_, f, std::index_sequence_for<Policies...>());
    }
    template <class Variant, class F, std::size_t... I>
    static auto visit(Variant& chosen, F& f, std::index_sequence<I...>) {
        using result = decltype(f(*std::get_if<0>(&chosen)));
        if constexpr (std::is_void_v<result>) {
            static_cast<void>(((chosen.index() == I && (f(*std::get_if<I>(&chosen)), true)) || ...));
        } else {
            result found{};
            static_cast<void>(((chosen.index() == I && (found = f(*std::get_if<I>(&chosen)), true)) || ...));
            return found;
        }
    }

    std::variant<Policies...> chosen_;
};

template <policy... Policies>
void one_of<Policies...>::on_insert(rows keys, rows values, view states, std::size_t row) noexcept
    requires(observes_insertion<Policies> || ...) {
    visit([&]<class P>(P& p) {
        if constexpr (observes_insertion<P>) p.on_insert(keys, values, states, row);
    });
}

template <policy... Policies>
void one_of<Policies...>::on_query(rows queries, view states) noexcept requires(observes_queries<Policies> || ...) {
    visit([&]<class P>(P& p) {
        if constexpr (observes_queries<P>) p.on_query(queries, states);
    });
}

template <policy... Policies>
void one_of<Policies...>::on_attention(rows probabilities, view states) noexcept
    requires(observes_attention<Policies> || ...) {
    visit([&]<class P>(P& p) {
        if constexpr (observes_attention<P>) p.on_attention(probabilities, states);
    });
}

template <policy... Policies>
void one_of<Policies...>::on_forget(const reader& stored, view states) noexcept
    requires(observes_decision<Policies> || ...) {
    visit([&]<class P>(P& p) {
        if constexpr (decides_from_storage<P>) {
            p.on_forget(stored, states);
        } else if constexpr (decides_from_memory<P>) {
            p.on_forget(states);
        }
    });
}

template <policy... Policies>
void one_of<Policies...>::on_compare(view states) noexcept requires(observes_comparison<Policies> || ...) {
    visit([&]<class P>(P& p) {
        if constexpr (observes_comparison<P>) p.on_compare(states);
    });
}

template <policy... Policies>
void one_of<Policies...>::merge(const editor& stored, std::span<const std::uint32_t> gone, view states) noexcept
    requires(merges<Policies> || ...) {
    visit([&]<class P>(P& p) {
        if constexpr (merges<P>) p.merge(stored, gone, states);
    });
}

template <policy... Policies>
void one_of<Policies...>::finish_prompt(const reader& stored, view states) noexcept
    requires(observes_prompt_end<Policies> || ...) {
    visit([&]<class P>(P& p) {
        if constexpr (observes_prompt_end<P>) p.finish_prompt(stored, states);
    });
}

}}  // namespace multistate::MULTISTATE_TARGET
