#pragma once

// A budget chosen at run time; with policies/spec.hpp, budgets as text. A budget stands at the end, after the parts:
//
//     snapkv|pyramid    snapkv(window=8)|pyramid(beta=20)    h2o|pool|adaptive(alpha=0.2)    AdaKV    PyramidKV
//
//     using spec = ms::spec_with<ms::any_budget>;                              // policies/spec.hpp
//     const spec s = spec::parse("snapkv|adaptive");
//     ms::cache<ms::any_composed> cache(s.applied_to(shape), s.policy);        // shape.states: the mean over all tables
//     s.budget.before_prompt(cache);    // pyramid takes effect here, while the cache is empty
//     …                                 // for adaptive: the whole prompt in one block
//     s.budget.after_prompt(cache);     // adaptive takes effect here
//
// The sum of all states stays as it is without a budget: layers (or layers * kv_heads) times shape.states. Every table
// keeps the guards that the policy has at shape.states. cake, duo, head and lazy_layers are known by name and refused:
// they need attention or scores that neither a text nor a cache has. Allocates.
#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <variant>

#include "multistate/budgets/adaptive.hpp"
#include "multistate/budgets/pyramid.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

struct budget_of_nothing {
    static constexpr std::string_view name = "";
};
struct named_pyramid {
    static constexpr std::string_view name = "pyramid";
    float beta = 20;
    static constexpr parameter<named_pyramid> parameters[] = {
        {"beta", &named_pyramid::beta, 1.0f, (std::numeric_limits<float>::max)()}};
};
struct named_adaptive {
    static constexpr std::string_view name = "adaptive";
    float alpha = 0.2f;
    static constexpr parameter<named_adaptive> parameters[] = {{"alpha", &named_adaptive::alpha, 0.0f, 1.0f}};
};

/// A budget that needs what a text cannot say.
struct budget_without_text {
    std::string_view name;
    std::string_view reason;
};
inline constexpr std::array<budget_without_text, 4> budgets_without_text{{
    {"cake",
     "it needs the attention of the prompt's last tokens: call cake_preference and cake_budget "
     "(budgets/cake.hpp)"},
    {"lazy_layers",
     "it needs a measurement of each layer's attention: call lazy_layers_budget "
     "(budgets/lazy_layers.hpp)"},
    {"head", "it needs a score for each KV head: call head_budget (budgets/head.hpp)"},
    {"duo", "it needs a score for each KV head: call duo_budget (budgets/duo.hpp)"},
}};

}  // namespace detail

/// A budget chosen at run time, or none.
class any_budget {
  public:
    static constexpr std::array<std::string_view, 2> names{detail::named_pyramid::name, detail::named_adaptive::name};

    /// No budget: all tables keep shape.states.
    any_budget() noexcept = default;
    /// The budget of that name, one of `names`, with its default parameters; no budget for other names.
    static any_budget named(std::string_view name) {
        any_budget result;
        if (name == detail::named_pyramid::name) result.chosen_ = detail::named_pyramid{};
        if (name == detail::named_adaptive::name) result.chosen_ = detail::named_adaptive{};
        return result;
    }
    /// The reason why a budget of the library is not in `names`; empty if the name is none of those.
    static std::string_view why_not_named(std::string_view name) {
        for (const auto& one : detail::budgets_without_text) {
            if (one.name == name) return one.reason;
        }
        return {};
    }

    explicit operator bool() const noexcept { return chosen_.index() != 0; }
    /// "pyramid"; empty if there is no budget.
    std::string_view name() const noexcept {
        return std::visit([](const auto& b) { return b.name; }, chosen_);
    }
    /// Whether it depends on the prompt, which must then arrive in one block.
    bool needs_prompt() const noexcept { return std::holds_alternative<detail::named_adaptive>(chosen_); }

    template <class F>
    void for_each_parameter(F&& f) {
        std::visit([&](auto& b) { multistate::for_each_parameter(b, f); }, chosen_);
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        std::visit([&](const auto& b) { multistate::for_each_parameter(b, f); }, chosen_);
    }

    /// The reason why this budget cannot be had with the policy; empty if it can.
    template <policy P>
    std::string why_refused_for(const P& policy) const {
        if (!needs_prompt()) return {};
        if (policy.forgets() != per::head) {
            return "adaptive divides the states of a layer between its KV heads, and the policy forgets for all of "
                   "them together; the part per_head changes that";
        }
        if (multistate::scores_are_comparable(policy)) return {};
        return "adaptive compares the scores of KV heads, and this policy has a scale of its own for each";
    }

    /// The states of each layer, if this budget gives layers numbers that do not depend on the prompt; otherwise empty.
    /// `guarded` are the guards in force at `states`. Throws as pyramid_budget.
    std::vector<std::size_t> by_layer(std::size_t layers, std::size_t states, guards guarded) const {
        const auto* pyramid = std::get_if<detail::named_pyramid>(&chosen_);
        if (pyramid == nullptr) return {};
        return pyramid_budget(layers, states, pyramid->beta, guarded.sinks + guarded.recent);
    }
    /// Gives an empty cache a budget that does not depend on the prompt; does nothing for others. Costs an allocation
    /// of the cache.
    template <class Cache>
    void before_prompt(Cache& cache) const {
        if (!*this || needs_prompt()) return;
        const shape& s = cache.shape();
        const guards guarded = guards_in_force(cache.layer(0).tables().front().shape(), cache.policy());
        cache.rebudget(guarded_budget{by_layer(s.layers, s.states, guarded), guarded});
    }
    /// Gives the cache a budget by the prompt that it holds; does nothing for other budgets. The prompt must have come
    /// in one block: nothing is forgotten yet.
    template <class Cache>
    void after_prompt(Cache& cache) const {
        if (const auto* adaptive = std::get_if<detail::named_adaptive>(&chosen_)) {
            cache.rebudget(adaptive_budget(cache, cache.shape().states, adaptive->alpha));
        }
    }

  private:
    std::variant<detail::budget_of_nothing, detail::named_pyramid, detail::named_adaptive> chosen_;
};

}}  // namespace multistate::MULTISTATE_TARGET
