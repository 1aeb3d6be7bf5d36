#pragma once

// A composition built at run time: any policy of the list, with any number of parts. It is itself a policy.
//
//     ms::any_composed policy(ms::any_policy::named("h2o"));
//     policy.add("pool");                                    // see ms::part_list::names
//     ms::cache<ms::any_composed> cache(shape, policy);
//
// It decides like composed<P, parts…>. Opt-in: it instantiates all policies and parts. spec.hpp makes one from text.
#include <array>
#include <concepts>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "multistate/core/errors.hpp"
#include "multistate/core/type_list.hpp"
#include "multistate/mergers/list.hpp"
#include "multistate/modifiers/list.hpp"
#include "multistate/policies/list.hpp"
#include "multistate/policy/composed.hpp"
#include "multistate/policy/plain_variant.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

using every_part = decltype(modifiers{} + mergers{});
using any_part = every_part::apply<plain_variant>;
inline constexpr hook hooks_of_any_part = []<class... Parts>(type_list<Parts...>) {
    return (hook::none | ... | hooks_of<Parts>);
}(every_part{});

}  // namespace detail

/// Parts in order; it is itself a part.
class part_list : public detail::forwards<part_list, detail::hooks_of_any_part> {
  public:
    static constexpr bool is_chosen_at_run_time = true;
    static constexpr auto names = detail::every_part::names;
    static constexpr std::size_t capacity = 6;

    std::size_t size() const noexcept { return size_; }
    /// Appends the part of that name with its default parameters. Throws std::invalid_argument that lists the names, or
    /// if there are already `capacity` parts.
    void add(std::string_view name) {
        detail::require(size_ < capacity, "part_list", "parts", detail::bound{"at most ", capacity}, size_ + 1);
        const bool found = [&]<std::size_t... I>(std::index_sequence<I...>) { return (add_if<I>(name) || ...); }
        (std::make_index_sequence<names.size()>());
        if (found) return;
        std::string known = "one of";
        for (const std::string_view one : names) known.append(known.size() == 6 ? " " : ", ").append(one);
        detail::refuse("part_list", "name", known, std::string("'").append(name).append("'"));
    }

    /// Calls f(the i-th part).
    template <class F>
    void visit(std::size_t i, F f) {
        parts_[i].visit(f);
    }
    /// Calls f(part) for each part in order.
    template <class F>
    void for_each(F f) {
        for (std::size_t i = 0; i < size_; ++i) parts_[i].visit(f);
    }
    template <class F>
    void for_each(F f) const {
        for (std::size_t i = 0; i < size_; ++i) parts_[i].visit(f);
    }

    bool modifies() const noexcept { return contains(hooks(), hook::modify); }
    /// The hooks that any of the parts has.
    hook hooks() const noexcept {
        hook found = hook::none;
        for_each([&]<class Part>(const Part&) { found = found | hooks_of<Part>; });
        return found;
    }
    reads what_is_read() const noexcept {
        reads result;
        for_each([&](const auto& part) { result = result | reads_of(part); });
        return result;
    }
    struct memory {};  // the memory of each part
    void lay_out(memory&, layout& l) const noexcept {
        for_each([&](const auto& part) { l.part(part); });
    }
    template <class F>
    void for_each_parameter(F&& f) {
        for_each([&](auto& part) { multistate::for_each_parameter(part, f); });
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        for_each([&](const auto& part) { multistate::for_each_parameter(part, f); });
    }

    /// The implementation of each hook (hooks.hpp).
    template <hook H, class Self, class... A>
    [[gnu::noinline]] static auto forward(Self& self, A&... a) noexcept(H != hook::check_shape)
        -> detail::hook_result<H> {
        if constexpr (H == hook::check_shape) {
            self.for_each([&](const auto& part) { call_hook<H>(part, a...); });
        } else if constexpr (H == hook::before_attention) {
            view its = std::get<view&>(std::tie(a...));
            rows probabilities = std::get<rows&>(std::tie(a...));
            self.for_each([&](auto& part) {
                if constexpr (requires { part.before_attention(probabilities, its); }) {
                    probabilities = part.before_attention(probabilities, its);
                }
                its.skip(part);
            });
            return probabilities;
        } else {
            view its = std::get<view&>(std::tie(a...));
            self.for_each([&](auto& part) {
                call_hook<H>(part, detail::or_view(a, its)...);
                its.skip(part);
            });
        }
    }

  private:
    template <std::size_t I>
    bool add_if(std::string_view name) noexcept {
        if (name != names[I]) return false;
        parts_[size_++].set<I>({});
        return true;
    }

    std::array<detail::any_part, capacity> parts_;
    std::size_t size_ = 0;
};

class any_composed : public composed<any_policy, part_list> {
  public:
    any_composed() noexcept = default;
    any_composed(any_policy policy) noexcept : composed(std::move(policy), part_list{}) {}

    /// Appends the part of that name: see part_list::add.
    void add(std::string_view part) { get<part_list>().add(part); }

    std::string_view name() const noexcept { return get<any_policy>().name(); }
    std::string_view paper() const noexcept { return get<any_policy>().paper(); }
    per forgets() const noexcept {
        per result = get<any_policy>().forgets();
        get<part_list>().for_each([&]<class Part>(const Part& part) {
            if constexpr (has_forgets<Part>) result = part.forgets();
        });
        return result;
    }
    /// Throws std::invalid_argument if a part does not fit the policy, as composed checks at compile time.
    void check_shape(const table_shape& s) const {
        if (const std::string problem = problem_of_parts(); !problem.empty()) {
            detail::refuse("any_composed", "parts", "parts that fit", "not: " + problem);
        }
        composed::check_shape(s);
    }
    /// A sentence on the first part that can have no effect or that contradicts another; empty if all fit.
    std::string problem_of_parts() const {
        const any_policy& policy = get<any_policy>();
        std::string problem, before;
        bool merges = reads_of(policy).writes, scope = false;
        get<part_list>().for_each([&]<class Part>(const Part& part) {
            if (!problem.empty()) return;
            const std::string its(Part::name), why = why_without_effect(policy, part);
            if (before.find("|" + its + "|") != std::string::npos) {
                problem = its + " is given twice";
            } else if (has_forgets<Part> && std::exchange(scope, true)) {
                problem = its + " contradicts the scope before it";
            } else if (has_merge<Part> && std::exchange(merges, true)) {
                problem =
                    its + " has no place: " + (reads_of(policy).writes ? "the policy" : "a part") + " merges already";
            } else if (!why.empty()) {
                problem = its + " has no effect: " + why;
            }
            before += "|" + its + "|";
        });
        return problem;
    }

  private:
    /// The reason why this part cannot change what the policy decides; empty if there is none.
    template <class Part>
    static std::string why_without_effect(const any_policy& policy, const Part& part) {
        const std::string who(policy.name());
        if (policy.forgets() == per::never) return who + " forgets nothing";
        if constexpr (has_forgets<Part>) {
            if (part.forgets() != policy.forgets()) return {};
            return who + " forgets for each " + (part.forgets() == per::layer ? "layer" : "KV head") + " already";
        }
        if constexpr (has_before_attention<Part>) {
            if (!contains(policy.hooks(), hook::on_attention)) return who + " reads no attention";
        }
        if constexpr (std::same_as<Part, decayed>) {
            if (contains(policy.hooks(), hook::on_forget)) return "the scores of " + who + " are not sums of attention";
            if (policy.ask([]<class P>(const P&) { return detail::replaces_scores<P>; }))
                return who + " looks at the attention of one token alone";
        }
        if constexpr (detail::needs_scores<Part>) {
            if ((policy.hooks() & detail::hooks_that_score) == hook::none) return who + " does not score states";
        }
        if constexpr (detail::reads_scores<Part>) {
            if (!policy.ask([]<class P>(const P&) { return detail::scores_to_merge_by<P>; }))
                return who + " has no scores by attention to merge by";
        }
        return {};
    }
};
static_assert(policy<any_composed> && hooks_are_checked<any_composed>);

}}  // namespace multistate::MULTISTATE_TARGET
