#pragma once

// A policy plus parts that change it. The result is a policy.
//
//     using mine = ms::composed<ms::h2o, ms::value_norm, ms::pool, ms::into_nearest>;   // parts act in this order
//     mine policy;
//     policy.get<ms::pool>().width = 7;                                                 // a part by its type
//     ms::composed other{ms::h2o{}, ms::pool{.width = 7}, ms::per_layer{}};
//
// A part is a small struct. It has at least one of these hooks; memory and parameters work as in a policy:
//
//     void modify(states)                             changes states.score before each decision   modifiers/pool.hpp
//     rows before_attention(probabilities, states)    what on_attention sees instead; may change  modifiers/decayed.hpp
//                                                     the policy's scores before that
//     per  forgets()                                  another scope                               modifiers/scope.hpp
//     void merge(stored, gone, states)                saves something of forgotten states         mergers/*.hpp
//
// A part may also have on_insert, on_query, finish_prompt, check_shape, as in a policy. One part at most has forgets;
// for default_guards, the last part with the hook answers. If a part modifies, the policy's own scores are kept apart,
// so sums keep accumulating; this costs one float per state and one copy of the scores per decision. A merger sees the
// final scores.
//
// Parts that can have no effect do not compile. A part whose modify changes scores and makes none has `static constexpr
// bool needs_scores = true`, a merger by scores `reads_scores = true`: both are refused where no scores are. A part can
// check its policy in a static member `template <class P> check_policy()`.
#include <algorithm>
#include <concepts>
#include <tuple>
#include <type_traits>
#include <utility>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// Holds the policy or one part of a composition. Each type may occur once.
template <class T>
struct part_holder {
    [[no_unique_address]] T part;
};

/// The hooks that a composition forwards.
template <class P, class... Parts>
inline constexpr hook hooks_of_composition = [] {
    const hook found = (hooks_of<P> | ... | hooks_of<Parts>) | hook::forgets;
    return ((found & hook::modify) == hook::none ? found : found | hook::on_forget) & hook::of_policies;
}();

/// The hooks in which a policy can write scores.
inline constexpr hook hooks_that_score =
    hook::on_insert | hook::on_query | hook::on_attention | hook::on_forget | hook::modify;
/// Whether a policy says that its on_attention replaces the scores, so that they hold no sums.
template <class P>
inline constexpr bool replaces_scores = requires {
    requires P::replaces_scores;
};
/// Whether a merger by scores has any: from attention, or written by the user where a policy says so.
template <class P>
inline constexpr bool scores_to_merge_by = has_on_attention<P> || requires {
    requires P::scored_by_user;
};
/// Whether a merger reads scores, which must come from attention.
template <class Part>
inline constexpr bool reads_scores = requires {
    requires Part::reads_scores;
};
/// Whether a part changes scores and makes none.
template <class Part>
inline constexpr bool needs_scores = requires {
    requires Part::needs_scores;
};
/// Whether a policy of this type always forgets for this scope. Unknown if its scope depends on the object.
template <class P, per Scope>
inline constexpr bool always_forgets_per = requires {
    requires P::forgets()
    == Scope;
};

template <class Part, class P>
consteval bool part_fits() noexcept {
    if constexpr (part_is_checked<Part>) {
        static_assert(hooks_of<Part> != hook::none || has_forgets<Part>,
                      "a part of a composition has at least one hook");
        static_assert((hooks_of<Part> & (hook::on_attention | hook::on_forget | hook::on_compare)) == hook::none,
                      "a part of a composition scores in modify or before_attention: on_attention, on_forget and "
                      "on_compare are hooks of policies");
        static_assert(!has_before_attention<Part> || has_on_attention<P>,
                      "a part with before_attention needs a policy with on_attention");
        static_assert(!reads_scores<Part> || scores_to_merge_by<P>,
                      "a merger by scores needs a policy that scores by attention");
        if constexpr (requires { Part::template check_policy<P>(); }) Part::template check_policy<P>();
    }
    return true;
}

/// Whether a part modifies scores. A list of parts that is made at run time answers for its content.
template <class Part>
constexpr bool modifies_scores(const Part& part) noexcept {
    if constexpr (requires { part.modifies(); }) {
        return part.modifies();
    } else {
        return has_modify<Part>;
    }
}
/// 1 if a policy or part merges, whatever its object holds. Choices at run time are checked when they are made.
template <class T>
inline constexpr int certain_merges = has_merge<T> && !requires {
    T::is_chosen_at_run_time;
};

/// Returns the argument unchanged, but replaces a view by `states`.
inline view& or_view(view&, view& states) noexcept { return states; }
template <class T>
T& or_view(T& argument, view&) noexcept {
    return argument;
}

}  // namespace detail

template <policy P, class... Parts>
class composed : detail::part_holder<P>,
                 detail::part_holder<Parts>...,
                 public detail::forwards<composed<P, Parts...>, detail::hooks_of_composition<P, Parts...>> {
    static_assert(hooks_are_checked<P> && (true && ... && detail::part_fits<Parts, P>()));
    static_assert((detail::certain_merges<P> + ... + detail::certain_merges<Parts>) <= 1,
                  "a composition merges in one way at most");
    static_assert((int{has_forgets<Parts>} + ... + 0) <= 1,
                  "a composition has one scope at most: per_layer or per_head");
    static_assert((hooks_of<P> & detail::hooks_that_score) != hook::none ||
                      !(false || ... || detail::needs_scores<Parts>) ||
                      (false || ... || (has_modify<Parts> && !detail::needs_scores<Parts>)),
                  "a part that changes scores has no effect on a policy without scores");

  public:
    static constexpr bool replaces_scores = detail::replaces_scores<P>;

    constexpr composed() noexcept : detail::part_holder<P>{}, detail::part_holder<Parts>{}... {}
    constexpr composed(P policy, Parts... parts) noexcept
        : detail::part_holder<P>{std::move(policy)}, detail::part_holder<Parts>{std::move(parts)}... {}

    /// The policy or part of that type. If the policy is itself a composition, its parts are searched too.
    template <class T>
    constexpr T& get() noexcept {
        return find<T>(*this);
    }
    template <class T>
    constexpr const T& get() const noexcept {
        return find<T>(*this);
    }

    constexpr reads what_is_read() const noexcept { return (reads_of(get<P>()) | ... | reads_of(get<Parts>())); }

    struct memory {};  // the policy's, then its own scores if a part modifies them, then that of each part
    void lay_out(memory&, layout& l) const noexcept {
        l.part(scored());
        (l.part(get<Parts>()), ...);
    }

    template <class F>
    void for_each_parameter(F&& f) {
        multistate::for_each_parameter(get<P>(), f);
        (multistate::for_each_parameter(get<Parts>(), f), ...);
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        multistate::for_each_parameter(get<P>(), f);
        (multistate::for_each_parameter(get<Parts>(), f), ...);
    }

    /// The implementation of each hook (hooks.hpp).
    template <hook H, class Self, class... A>
    static constexpr auto forward(Self& self, A&... a) noexcept(H != hook::check_shape) -> detail::hook_result<H> {
        if constexpr (!std::is_void_v<detail::hook_result<H>>) {
            return last_answer<H>(self, a...);
        } else if constexpr (H == hook::check_shape) {
            call_hook<H>(self.template get<P>(), a...);
            (call_hook<H>(self.template get<Parts>(), a...), ...);
        } else if constexpr (H == hook::on_attention) {
            self.attend(a...);
        } else if constexpr (H == hook::on_forget || H == hook::on_compare) {
            self.template decide<H>(a...);
        } else {
            view& states = std::get<view&>(std::tie(a...));
            view own = self.as_policy_sees(states);
            call_hook<H>(self.template get<P>(), detail::or_view(a, own)...);
            self.template for_parts_with<H>(
                states, [&](auto& part, view its) { call_hook<H>(part, detail::or_view(a, its)...); });
        }
    }

  private:
    constexpr bool modifies() const noexcept { return (false || ... || detail::modifies_scores(get<Parts>())); }

    /// The policy, with its own scores laid out after its memory.
    struct scored_policy {
        const P& policy;
        bool modifies;
        struct memory {
            per_state<float> scores;
        };
        void lay_out(memory& m, layout& l) const noexcept {
            l.part(policy);
            if (modifies) l(m.scores);
        }
    };
    scored_policy scored() const noexcept { return {get<P>(), modifies()}; }

    template <class T, class Self>
    static constexpr auto& find(Self& self) noexcept {
        if constexpr ((std::same_as<T, P> || ... || std::same_as<T, Parts>)) {
            using holder = detail::part_holder<T>;
            return static_cast<std::conditional_t<std::is_const_v<Self>, const holder, holder>&>(self).part;
        } else {
            return find<P>(self).template get<T>();
        }
    }

    /// The answer of the last part that has the hook; the policy's answer if none has it.
    template <hook H>
    static constexpr auto last_answer(const composed& self, auto&... a) noexcept {
        auto answer = call_hook<H>(self.get<P>(), a...);
        const auto ask = [&]<class Part>(const Part& part) {
            if constexpr (has_hook<Part, H>) answer = call_hook<H>(part, a...);
        };
        (ask(self.get<Parts>()), ...);
        return answer;
    }

    view as_policy_sees(view states) const noexcept {
        if (modifies()) states.score = states.memory(scored()).scores;
        return states;
    }
    /// Calls f(part, states with the memory of the part) for each part with the hook.
    template <hook H, class F>
    void for_parts_with([[maybe_unused]] view states, [[maybe_unused]] F f) noexcept {
        if constexpr ((false || ... || has_hook<Parts, H>)) {
            states.skip(scored());
            const auto visit = [&]<class Part>(Part& part) {
                if constexpr (has_hook<Part, H>) f(part, states);
                states.skip(part);
            };
            (visit(get<Parts>()), ...);
        }
    }

    void attend(rows probabilities, view states) noexcept {
        const view own = as_policy_sees(states);
        for_parts_with<hook::before_attention>(states, [&](auto& part, view its) {
            its.score = own.score;
            probabilities = part.before_attention(probabilities, its);
        });
        get<P>().on_attention(probabilities, own);
    }
    /// on_forget(stored, states) or on_compare(states).
    template <hook H>
    void decide(auto&... a) noexcept {
        view& states = std::get<view&>(std::tie(a...));
        view own = as_policy_sees(states);
        call_hook<H>(get<P>(), detail::or_view(a, own)...);
        if (modifies()) std::ranges::copy(own.score, states.score.begin());
        for_parts_with<hook::modify>(states, [](auto& part, view its) { part.modify(its); });
    }
};

template <class P, class... Parts>
composed(P, Parts...) -> composed<P, Parts...>;

}}  // namespace multistate::MULTISTATE_TARGET
