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
// Cost: one call, and one comparison per choice, for each hook. Hooks that the chosen policy lacks do nothing.
#include <array>
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A choice that makes another policy.
template <class Choice>
concept named_preset = requires {
    { Choice::make() } -> policy;
};

namespace detail {

template <class Choice>
struct policy_of_choice {
    using type = Choice;
};
template <named_preset Choice>
struct policy_of_choice<Choice> {
    using type = decltype(Choice::make());
};

/// A variant of the types, without duplicates.
template <class Variant, class... Types>
struct distinct {
    using type = Variant;
};
template <class... Known, class First, class... Rest>
struct distinct<std::variant<Known...>, First, Rest...>
    : distinct<std::conditional_t<(false || ... || std::same_as<First, Known>), std::variant<Known...>,
                                  std::variant<Known..., First>>,
               Rest...> {};

/// The names of a choice.
struct choice_names {
    std::string_view name, paper;
};
template <class Choice>
inline constexpr choice_names names_of_choice{Choice::name, [] {
                                                  std::string_view paper;
                                                  if constexpr (requires { Choice::paper; }) paper = Choice::paper;
                                                  return paper;
                                              }()};

/// Calls f on the value in the variant. Not std::visit: it may throw, which a decoding step must not.
template <class Variant, class F, std::size_t... I>
constexpr auto visit_choice(Variant& chosen, F& f, std::index_sequence<I...>) {
    using result = decltype(f(*std::get_if<0>(&chosen)));
    if constexpr (std::is_void_v<result>) {
        static_cast<void>(((chosen.index() == I && (f(*std::get_if<I>(&chosen)), true)) || ...));
    } else {
        result found{};
        static_cast<void>(((chosen.index() == I && (found = f(*std::get_if<I>(&chosen)), true)) || ...));
        return found;
    }
}

/// The hooks that at least one of the policies has.
template <class Variant>
inline constexpr hook hooks_of_any = hook::none;
template <class... Policies>
inline constexpr hook hooks_of_any<std::variant<Policies...>> =
    ((hook::forgets | ... | hooks_of<Policies>)) & hook::of_policies;

}  // namespace detail

template <class... Choices>
class one_of;

namespace detail {

template <class... Choices>
using policies_of = typename distinct<std::variant<>, typename policy_of_choice<Choices>::type...>::type;
template <class... Choices>
using forwards_any = forwards<one_of<Choices...>, hooks_of_any<policies_of<Choices...>>>;

}  // namespace detail

template <class... Choices>
class one_of : public detail::forwards_any<Choices...> {
    static_assert((hooks_are_checked<typename detail::policy_of_choice<Choices>::type> && ...));
    using policies = detail::policies_of<Choices...>;
    using first = std::variant_alternative_t<0, policies>;

  public:
    static constexpr bool is_chosen_at_run_time = true;
    /// The names of the choices, in order.
    static constexpr std::array<std::string_view, sizeof...(Choices)> names{Choices::name...};

    one_of() = default;
    template <class P>
    requires(std::same_as<P, typename detail::policy_of_choice<Choices>::type> ||
             ...)  // not `policy P`, which would ask whether one_of is copyable
        one_of(P policy)
    noexcept : chosen_(std::move(policy)), names_(first_names_of<P>()) {}

    /// The policy of that name with its default parameters, or "policy:preset". Throws std::invalid_argument that lists
    /// the names.
    static one_of named(std::string_view name) {
        one_of result;
        bool found = false;
        std::string known = "one of";
        for_each_name([&](const std::string& one, const detail::choice_names& its, auto make) {
            known.append(known.size() == 6 ? " " : ", ").append(one);
            if (one != name) return;
            result.chosen_ = make();
            result.names_ = &its;
            found = true;
        });
        if (!found) detail::refuse("one_of", "name", known, std::string("'").append(name).append("'"));
        return result;
    }
    /// Everything that named() accepts: the name of each choice, followed by its presets.
    static std::vector<std::string> all_names() {
        std::vector<std::string> result;
        for_each_name([&](const std::string& one, auto&&...) { result.push_back(one); });
        return result;
    }

    /// The hooks of the chosen policy.
    hook hooks() const noexcept {
        return visit(chosen_, []<class P>(const P&) { return hooks_of<P>; });
    }
    /// Calls f(the chosen policy).
    template <class F>
    auto ask(F f) const noexcept {
        return visit(chosen_, f);
    }
    std::string_view name() const noexcept { return names_->name; }
    /// The name of the choice's paper; empty if it gives none.
    std::string_view paper() const noexcept { return names_->paper; }

    template <class F>
    void for_each_parameter(F&& f) {
        visit(chosen_, [&](auto& p) { multistate::for_each_parameter(p, f); });
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        visit(chosen_, [&](const auto& p) { multistate::for_each_parameter(p, f); });
    }
    constexpr reads what_is_read() const noexcept {
        return visit(chosen_, [](const auto& p) { return reads_of(p); });
    }
    struct memory {};  // the memory is that of the choice
    void lay_out(memory&, layout& l) const noexcept {
        visit(chosen_, [&](const auto& p) { l.part(p); });
    }

    /// The implementation of each hook (hooks.hpp). Not inlined: inlining the hooks of all policies at every call in a
    /// table would take compilers minutes.
    template <hook H, class Self, class... A>
    [[gnu::noinline]] static auto forward(Self& self, A&... a) noexcept(H != hook::check_shape)
        -> detail::hook_result<H> {
        return visit(self.chosen_, [&](auto& p) { return call_hook<H>(p, a...); });
    }

  private:
    /// Calls f(name, names of the choice, function that makes it) for all that can be chosen.
    template <class F>
    static void for_each_name(F f) {
        (names_of<Choices>(f), ...);
    }
    template <class Choice, class F>
    static void names_of(F& f) {
        const std::string own(Choice::name);
        const detail::choice_names& its = detail::names_of_choice<Choice>;
        if constexpr (named_preset<Choice>) {
            f(own, its, [] { return Choice::make(); });
        } else {
            f(own, its, [] { return Choice{}; });
        }
        if constexpr (has_presets<Choice>) {
            for (const auto& one : Choice::presets) f(own + ":" + std::string(one.name), its, one.make);
        }
    }
    /// The names of the first choice that is of this policy type.
    template <class P>
    static constexpr const detail::choice_names* first_names_of() noexcept {
        const detail::choice_names* first = nullptr;
        const auto ask = [&]<class Choice>(std::type_identity<Choice>) {
            if constexpr (std::same_as<P, typename detail::policy_of_choice<Choice>::type>) {
                if (first == nullptr) first = &detail::names_of_choice<Choice>;
            }
        };
        (ask(std::type_identity<Choices>()), ...);
        return first;
    }

    template <class Variant, class F>
    static constexpr auto visit(Variant& chosen, F&& f) {
        return detail::visit_choice(chosen, f, std::make_index_sequence<std::variant_size_v<policies>>());
    }

    policies chosen_;
    const detail::choice_names* names_ = first_names_of<first>();
};

}}  // namespace multistate::MULTISTATE_TARGET
