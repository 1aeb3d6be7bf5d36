#pragma once

// A policy chosen at run time. It is itself a policy, so everything that takes a policy takes it unchanged.
//
//     using mine = ms::one_of<ms::window, ms::tova, decayed>;
//     ms::cache<mine> cache(shape, mine::named("tova"));     // or mine(decayed{.decay = 0.9f})
//
// A choice is a policy or a named preset: a policy with other parameters, under its own name.
//
//     struct h2o_local {
//         static constexpr std::string_view name = "h2o_local";
//         static constexpr ms::h2o make() noexcept { return {.recent_at_most = 0}; }
//     };
//
// Choices are plain structs (trivially copyable). Cost: one call, and one comparison per choice that has the hook.
// Hooks that the chosen policy lacks do nothing.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/policy/plain_variant.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A choice that makes another policy.
template <class Choice>
concept named_preset = requires {
    { Choice::make() } -> policy;
};

namespace detail {

template <class Choice>
constexpr auto make_choice() noexcept {
    if constexpr (named_preset<Choice>) {
        return Choice::make();
    } else {
        return Choice{};
    }
}
template <class Choice>
using policy_of_choice = decltype(make_choice<Choice>());

template <class Choice>
constexpr std::string_view paper_of() noexcept {
    if constexpr (requires { Choice::paper; }) return Choice::paper;
    return {};
}

/// The names that named() is asked for and meets.
struct name_search {
    std::string_view wanted;
    std::vector<std::string> met = {};
    bool found = false;

    MULTISTATE_NOINLINE bool meets(std::string_view name, std::string_view preset = {}) {
        std::string& its = met.emplace_back(name);
        if (!preset.empty()) its.append(":").append(preset);
        return its == wanted && !std::exchange(found, true);
    }
};

}  // namespace detail

template <class... Choices>
class one_of;

namespace detail {

/// The hooks that at least one of the choices has.
template <class... Choices>
inline constexpr hook hooks_of_any = ((hook::forgets | ... | hooks_of<policy_of_choice<Choices>>)) & hook::of_policies;
template <class... Choices>
using forwards_any = forwards<one_of<Choices...>, hooks_of_any<Choices...>>;

}  // namespace detail

template <class... Choices>
class one_of : public detail::forwards_any<Choices...> {
    static_assert((hooks_are_checked<detail::policy_of_choice<Choices>> && ...));
    using every_index = std::index_sequence_for<Choices...>;
    using chosen_policy = detail::plain_variant<detail::policy_of_choice<Choices>...>;
    template <hook H>
    using with_hook = detail::indices_where<has_hook<detail::policy_of_choice<Choices>, H>...>;

  public:
    static constexpr bool is_chosen_at_run_time = true;
    /// The names of the choices, in order.
    static constexpr std::array<std::string_view, sizeof...(Choices)> names{Choices::name...};

    one_of() noexcept {
        chosen_.template set<0>(detail::make_choice<std::tuple_element_t<0, std::tuple<Choices...>>>());
    }
    template <class P>
    requires(std::same_as<P, detail::policy_of_choice<Choices>> ||
             ...)  // not `policy P`, which would ask whether one_of is copyable
        one_of(const P& policy)
    noexcept {
        constexpr std::array same{std::same_as<P, detail::policy_of_choice<Choices>>...};
        chosen_.template set<static_cast<std::size_t>(std::ranges::find(same, true) - same.begin())>(policy);
    }

    /// The policy of that name with its default parameters, or "policy:preset". Throws std::invalid_argument that lists
    /// the names.
    static one_of named(std::string_view name) {
        detail::name_search search{name};
        const one_of result = find(search, every_index());
        if (search.found) return result;
        std::string known = "one of";
        for (const std::string& one : search.met) known.append(known.size() == 6 ? " " : ", ").append(one);
        detail::refuse("one_of", "name", known, std::string("'").append(name).append("'"));
    }
    /// Everything that named() accepts: the name of each choice, followed by its presets.
    static std::vector<std::string> all_names() {
        detail::name_search search{};
        static_cast<void>(find(search, every_index()));
        return search.met;
    }

    /// The hooks of the chosen policy.
    hook hooks() const noexcept {
        constexpr hook of_choices[]{hooks_of<detail::policy_of_choice<Choices>>...};
        return of_choices[chosen_.index()];
    }
    /// f(the chosen policy), true or false.
    template <class F>
    bool ask(F f) const noexcept {
        bool answer = false;
        chosen_.visit([&](const auto& p) { answer = f(p); });
        return answer;
    }
    std::string_view name() const noexcept { return names[chosen_.index()]; }
    /// The name of the choice's paper; empty if it gives none.
    std::string_view paper() const noexcept {
        constexpr std::string_view papers[]{detail::paper_of<Choices>()...};
        return papers[chosen_.index()];
    }

    template <class F>
    void for_each_parameter(F&& f) {
        chosen_.visit([&](auto& p) { multistate::for_each_parameter(p, f); });
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        chosen_.visit([&](const auto& p) { multistate::for_each_parameter(p, f); });
    }
    reads what_is_read() const noexcept {
        constexpr reads of_choices[]{detail::found_hooks<detail::policy_of_choice<Choices>>::what...};
        reads result = of_choices[chosen_.index()];
        chosen_.template visit<with_hook<hook::what_is_read>>([&](const auto& p) { result = p.what_is_read(); });
        return result;
    }
    struct memory {};  // the memory is that of the choice
    void lay_out(memory&, layout& l) const noexcept {
        chosen_.template visit<with_hook<hook::lay_out>>([&](const auto& p) { l.part(p); });
    }

    /// The implementation of each hook (hooks.hpp). Not inlined: inlining the hooks of all policies at every call in a
    /// table would take compilers minutes.
    template <hook H, class Self, class... A>
    [[gnu::noinline]] static auto forward(Self& self, A&... a) noexcept(H != hook::check_shape)
        -> detail::hook_result<H> {
        using result = detail::hook_result<H>;
        if constexpr (std::is_void_v<result>) {
            self.chosen_.template visit<with_hook<H>>([&](auto& p) { call_hook<H>(p, a...); });
        } else {
            result answer = detail::absent_answer<H>();
            self.chosen_.template visit<with_hook<H>>([&](auto& p) { answer = call_hook<H>(p, a...); });
            return answer;
        }
    }

  private:
    template <std::size_t... I>
    static one_of find(detail::name_search& search, std::index_sequence<I...>) {
        one_of result;
        (result.template choose_if_found<I, Choices>(search), ...);
        return result;
    }
    template <std::size_t I, class Choice>
    void choose_if_found(detail::name_search& search) {
        if (search.meets(Choice::name)) chosen_.template set<I>(detail::make_choice<Choice>());
        if constexpr (has_presets<Choice>) {
            for (const auto& one : Choice::presets) {
                if (search.meets(Choice::name, one.name)) chosen_.template set<I>(one.make());
            }
        }
    }

    chosen_policy chosen_;
};

}}  // namespace multistate::MULTISTATE_TARGET
