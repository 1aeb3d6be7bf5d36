// Which structs are policies with which hooks: decided at compile time.
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

namespace policy_test {

namespace ms = multistate;

struct plain {
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
};
struct misspelled : plain {
    void on_atention(ms::rows, ms::view) const noexcept {}
};
struct too_few_arguments : plain {
    void on_attention(ms::rows) const noexcept {}
};
struct wrong_argument : plain {
    void on_attention(std::vector<float>, ms::view) const noexcept {}
};
struct may_throw : plain {
    void on_attention(ms::rows, ms::view) const {}
};
struct insertion_without_row : plain {
    void on_insert(ms::rows, ms::rows, ms::view) const noexcept {}
};
struct decision_by_row : plain {
    void on_forget(ms::view, std::size_t) const noexcept {}
};
struct guards_of_another_type : plain {
    std::size_t default_guards(std::size_t) const noexcept { return 1; }
};
struct queries_without_states : plain {
    void on_query(ms::rows) const noexcept {}
};
struct decision_that_may_throw : plain {
    void on_forget(ms::view) const {}
};
struct comparison_that_may_throw : plain {
    void on_compare(ms::view) const {}
};
struct comparable_as_a_number : plain {
    static constexpr bool scores_are_comparable = false;
};
struct merge_of_one_row : plain {
    void merge(const ms::editor&, std::uint32_t, ms::view) const noexcept {}
};
struct merge_by_reading : plain {
    void merge(const ms::reader&, std::span<const std::uint32_t>, ms::view) const noexcept {}
};
struct prompt_end_without_rows : plain {
    void finish_prompt(ms::view) const noexcept {}
};
struct decides_in_two_forms : plain {
    void on_forget(ms::view) const noexcept {}
    void on_forget(const ms::reader&, ms::view) const noexcept {}
};
struct decides_alone : plain {
    void on_forget(ms::view) const noexcept {}
};
struct all_hooks : plain {
    float strength = 1;
    static constexpr ms::parameter<all_hooks> parameters[] = {{"strength", &all_hooks::strength, 0.0f, 2.0f}};

    ms::guards default_guards(std::size_t) const noexcept { return {}; }
    void check_shape(const ms::table_shape&) const {}
    struct memory {
        ms::per_state<float> number;
    };
    void lay_out(memory& m, ms::layout& l) const noexcept { l(m.number); }
    void on_insert(ms::rows, ms::rows, ms::view, std::size_t) noexcept {}
    void on_query(ms::rows, ms::view) noexcept {}
    void on_attention(ms::rows, ms::view) noexcept {}
    void on_forget(const ms::reader&, ms::view) noexcept {}
    void on_compare(ms::view) noexcept {}
    static constexpr bool scores_are_comparable() noexcept { return true; }
    void merge(const ms::editor&, std::span<const std::uint32_t>, ms::view) noexcept {}
    void finish_prompt(const ms::reader&, ms::view) noexcept {}
};
struct no_unit {};
struct unit_that_may_throw {
    static ms::per forgets() { return ms::per::layer; }
};
struct not_copyable : plain {
    not_copyable() = default;
    not_copyable(const not_copyable&) = delete;
    not_copyable& operator=(const not_copyable&) = delete;
};

static_assert(ms::policy<plain> && ms::policy<all_hooks> && ms::policy<misspelled>);
static_assert(!ms::policy<no_unit> && !ms::policy<unit_that_may_throw> && !ms::policy<not_copyable>);
static_assert(!ms::policy<int> && !ms::policy<ms::f32>);

static_assert(ms::hooks_of<plain> == ms::hook::none && ms::hooks_of<misspelled> == ms::hook::none);
static_assert(ms::hooks_of<all_hooks> ==
              ms::hook::of_policies - (ms::hook::forgets | ms::hook::lay_out | ms::hook::what_is_read));
static_assert(ms::has_on_attention<all_hooks> && ms::has_on_insert<all_hooks> && ms::has_on_query<all_hooks>);
static_assert(ms::has_on_compare<all_hooks> && ms::has_scores_are_comparable<all_hooks> && ms::has_merge<all_hooks>);
static_assert(ms::has_default_guards<all_hooks> && ms::has_check_shape<all_hooks> && ms::has_memory<all_hooks>);
static_assert(ms::has_finish_prompt<all_hooks> && ms::has_on_forget<all_hooks> && !ms::has_on_forget<plain>);
static_assert(ms::hooks_of<decides_alone> == ms::hook::on_forget &&
              ms::hooks_of<const decides_alone> == ms::hook::on_forget);
static_assert(ms::hooks_of<merge_by_reading> == ms::hook::merge, "an editor is a reader");
static_assert(ms::hooks_of<prompt_end_without_rows> == ms::hook::finish_prompt, "a leading `stored` may be left out");
static_assert(ms::has_parameters<all_hooks> && !ms::has_parameters<plain>);

// A hook in another form is none; tests/rejected shows that it does not compile in a table or a wrapper.
template <class... Wrong>
constexpr bool have_no_hook = ((ms::hooks_of<Wrong> == ms::hook::none) && ...);
static_assert(have_no_hook<too_few_arguments, wrong_argument, may_throw, insertion_without_row, decision_by_row>);
static_assert(have_no_hook<guards_of_another_type, queries_without_states, decision_that_may_throw, merge_of_one_row>);
static_assert(have_no_hook<comparison_that_may_throw, comparable_as_a_number, decides_in_two_forms>);
static_assert(ms::hooks_are_checked<plain> && ms::hooks_are_checked<all_hooks> &&
              ms::hooks_are_checked<ms::any_policy>);
static_assert(ms::hooks_are_checked<decides_alone> && ms::hooks_are_checked<merge_by_reading>);

struct wrong_store {
    static constexpr std::string_view name = "wrong_store";
    static constexpr bool scaled = false;
    using element = float;
    static void store(const float*, std::size_t, float*) noexcept {}
};
struct throwing_store {
    static constexpr std::string_view name = "throwing_store";
    static constexpr bool scaled = false;
    using element = float;
    static float store(const float*, std::size_t, float*) { return 1; }
};
static_assert(ms::codec<ms::f32> && ms::codec<ms::f16> && ms::codec<ms::bf16> && ms::codec<ms::int8>);
static_assert(!ms::codec<wrong_store> && !ms::codec<throwing_store> && !ms::codec<float> && !ms::codec<plain>);

struct backwards {
    void run(std::size_t n, auto&& task) const {
        for (std::size_t i = n; i-- > 0;) task(i);
    }
};
struct no_run {};
constexpr auto callable = [](std::size_t n, auto&& task) {
    for (std::size_t i = n; i-- > 0;) task(i);
};
constexpr auto for_pointers = [](std::size_t, void (*)(std::size_t)) {};
static_assert(ms::executor<ms::serial> && ms::executor<const ms::serial> && ms::executor<backwards&>);
static_assert(ms::executor<decltype(callable)> && ms::executor<decltype(callable)&>);
static_assert(ms::executor<std::function<void(std::size_t, std::function<void(std::size_t)>)>>);
static_assert(!ms::executor<no_run> && !ms::executor<int> && !ms::executor<decltype(for_pointers)>);

// Policies without parameters take no memory of their own in a table; a state of the decision fits a register.
static_assert(std::is_empty_v<ms::full> && std::is_empty_v<ms::window> && std::is_empty_v<ms::citrus>);
static_assert(sizeof(ms::tova) == sizeof(std::size_t) && sizeof(ms::h2o_layer) == sizeof(ms::h2o));
static_assert(sizeof(ms::position) == 4 && sizeof(ms::forgotten_state) == 8 && sizeof(ms::relocation) == 8);
static_assert(std::is_trivially_copyable_v<ms::view> && std::is_trivially_copyable_v<ms::rows>);
static_assert(std::is_nothrow_move_constructible_v<ms::cache<ms::any_policy>>);
static_assert(std::is_nothrow_move_assignable_v<ms::cache<ms::tova, ms::int8>>);
static_assert(!std::is_copy_constructible_v<ms::cache<ms::tova>>, "copies are spelled clone()");
static_assert(std::is_copy_constructible_v<ms::table<ms::tova>>);

// The decoding step throws nothing.
using table = ms::table<ms::tova>;
using cache = ms::cache<ms::any_policy>;
static_assert(noexcept(std::declval<table&>().place(0)) && noexcept(std::declval<table&>().append(0, 1)));
static_assert(noexcept(std::declval<table&>().observe({})) && noexcept(std::declval<table&>().forget()));
static_assert(noexcept(std::declval<table&>().observe_queries({}, 1)));
static_assert(noexcept(std::declval<table&>().clear()) && noexcept(std::declval<table&>().finish_prompt()));
static_assert(noexcept(std::declval<cache&>().clear()) && noexcept(std::declval<cache&>().layer(0)));
using layer = ms::cache_layer<cache>;
static_assert(noexcept(std::declval<layer>().append(0, {}, {})));
static_assert(noexcept(std::declval<layer>().observe(ms::rows{})));
static_assert(noexcept(std::declval<layer>().observe(std::span<const float>())));
static_assert(noexcept(std::declval<layer>().observe_queries({})));
static_assert(noexcept(std::declval<layer>().forget()) && noexcept(std::declval<layer>().finish_prompt()));
static_assert(noexcept(ms::attend(std::declval<layer>(), {}, {}, std::declval<ms::workspace&>())));
static_assert(noexcept(ms::step(std::declval<layer>(), 0, {}, {}, std::declval<ms::workspace&>())));
static_assert(noexcept(ms::prefill(std::declval<layer>(), 0, {}, {}, std::declval<ms::workspace&>())));

constexpr ms::table_shape shape{.states = 8, .heads = 6, .kv_heads = 2, .head_dim = 5};

TEST(policy, defaults_stand_in_for_absent_hooks) {
    EXPECT_EQ(ms::default_guards(plain{}, 100).sinks, 0u);
    EXPECT_EQ(ms::default_guards(plain{}, 100).recent, 0u);
    EXPECT_EQ(shape.group(), 3u);
    EXPECT_EQ(ms::reads_of(plain{}), ms::reads{});
    EXPECT_EQ(ms::reads_of(all_hooks{}), (ms::reads{true, true, true, true, true, true}));
    EXPECT_EQ(ms::reads_of(merge_by_reading{}), (ms::reads{.stored = true, .order = true, .writes = true}));
    EXPECT_EQ(ms::reads_of(decides_alone{}), (ms::reads{.order = true}));
}

/// The numbers of a policy, as name, value and bounds.
template <class P>
std::vector<std::tuple<std::string, float, float, float>> parameters_of(P policy) {
    std::vector<std::tuple<std::string, float, float, float>> result;
    ms::for_each_parameter(policy, [&]<class T>(std::string_view name, T& value, T least, T most) {
        result.emplace_back(name, value, least, most);
        value = static_cast<T>(9);
    });
    // what was written is there, through a const policy, too
    ms::for_each_parameter(std::as_const(policy),
                           [](std::string_view, const auto& value, auto, auto) { EXPECT_EQ(value, 9); });
    return result;
}

TEST(policy, parameters_are_listed_and_may_be_set) {
    EXPECT_EQ(parameters_of(all_hooks{}), (decltype(parameters_of(plain{})){{"strength", 1.0f, 0.0f, 2.0f}}));
    EXPECT_TRUE(parameters_of(plain{}).empty());
}

TEST(policy, add_sums_the_heads) {
    std::vector<float> probabilities(2 * 24);
    std::iota(probabilities.begin(), probabilities.end(), 0.0f);
    std::vector<float> score(20, 0.5f);
    ms::add({probabilities.data(), 2, 20, 24}, score);
    for (std::size_t j = 0; j < 20; ++j) EXPECT_EQ(score[j], static_cast<float>(2 * j + 24) + 0.5f);
}

TEST(policy, rows_are_spans_with_a_stride) {
    const std::vector<float> memory{1, 2, 3, 4, 5, 6};
    const ms::rows rows{memory.data(), 2, 2, 3};
    EXPECT_EQ(rows[1].size(), 2u);
    EXPECT_EQ(rows[1][0], 4.0f);
}

}  // namespace policy_test
