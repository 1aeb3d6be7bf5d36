// The list of policies as people read it.
#include "policy_list.hpp"

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace policy_list_test {

namespace ms = multistate;
using demo::policy_description;

std::string printed(const std::vector<policy_description>& policies, std::size_t columns = 120) {
    std::ostringstream out;
    demo::print_policies(out, policies, columns);
    return out.str();
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

struct reads_all {
    static constexpr std::string_view name = "reads_all";
    static constexpr std::string_view paper = "arXiv 0000.00001";
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    bool mean = true;
    static constexpr ms::parameter<reads_all> parameters[] = {{"mean", &reads_all::mean}};

    void on_insert(ms::rows, ms::rows, ms::view, std::size_t) const noexcept {}
    void on_query(ms::rows, ms::view) const noexcept {}
    void on_attention(ms::rows, ms::view) const noexcept {}
    void on_forget(const ms::reader&, ms::view) const noexcept {}
};

template <class... Hooks>
struct reads_some : Hooks... {
    static constexpr std::string_view name = "reads_some";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
};
struct arrivals {
    void on_insert(ms::rows, ms::rows, ms::view, std::size_t) const noexcept {}
};
struct queries {
    void on_query(ms::rows, ms::view) const noexcept {}
};
struct stored {
    void on_forget(const ms::reader&, ms::view) const noexcept {}
};
struct merging {
    void merge(const ms::editor&, std::span<const std::uint32_t>, ms::view) const noexcept {}
};

template <class Policy>
policy_description described() {
    return demo::describe(ms::one_of<ms::window, reads_all, Policy>(Policy{}));
}

TEST(PolicyList, APolicySpeaksForItself) {
    const policy_description all = demo::describe(ms::one_of<ms::window, reads_all>(reads_all{}));
    EXPECT_EQ(all.name, "reads_all");
    EXPECT_EQ(all.forgets, "layer");
    EXPECT_EQ(all.paper, "arXiv 0000.00001");
    EXPECT_EQ(all.reads, "probabilities, queries, new and stored keys and values");
    ASSERT_EQ(all.parameters.size(), 1U);
    EXPECT_EQ(all.parameters[0].name, "mean");
    EXPECT_EQ(all.parameters[0].value, "true");

    EXPECT_EQ((described<reads_some<arrivals>>().reads), "new keys and values");
    EXPECT_EQ((described<reads_some<queries>>().reads), "queries");
    EXPECT_EQ((described<reads_some<stored>>().reads), "stored keys and values");
    EXPECT_EQ((described<reads_some<merging>>().reads), "stored keys and values");
    EXPECT_EQ((described<reads_some<queries, stored>>().reads), "queries, stored keys and values");
    const policy_description none = described<reads_some<>>();
    EXPECT_EQ(none.reads, "nothing");
    EXPECT_EQ(none.forgets, "head");
    EXPECT_EQ(none.paper, "-");
    EXPECT_TRUE(none.parameters.empty());
    EXPECT_EQ(described<ms::full>().forgets, "never");
}

TEST(PolicyList, ColumnsAreAligned) {
    const std::vector<std::string> lines = lines_of(printed(
        {{"tova", "layer", "arXiv 2401.06104", "probabilities", {}},
         {"a_long_name", "never", "-", "nothing", {{"decay", "0.95", "0 to 1"}, {"mean", "true", "true or false"}}},
         {"x", "head", "-", "queries", {}}}));
    ASSERT_GE(lines.size(), 5U);
    EXPECT_EQ(lines[0], "NAME         FORGETS  PAPER             READS");
    EXPECT_EQ(lines[1], "tova         layer    arXiv 2401.06104  probabilities");
    EXPECT_EQ(lines[2], "a_long_name  never    -                 nothing");
    EXPECT_EQ(lines[3], "    decay=0.95 (0 to 1), mean=true (true or false)");
    EXPECT_EQ(lines[4], "x            head     -                 queries");
}

TEST(PolicyList, ManyParametersTakeSeveralLines) {
    policy_description p{"p", "head", "-", "nothing", {}};
    for (int i = 0; i < 20; ++i) p.parameters.push_back({"parameter_" + std::to_string(i), "1", "0 to 2"});
    const std::vector<std::string> lines = lines_of(printed({p}));
    std::string parameters;
    std::size_t count = 0;
    for (const std::string& line : lines) {
        EXPECT_LE(line.size(), 120U) << line;
        if (!line.starts_with("    ")) continue;
        parameters += line.substr(4) + ' ';
        ++count;
    }
    EXPECT_GT(count, 3U);
    EXPECT_LT(count, 8U);
    EXPECT_TRUE(parameters.starts_with("parameter_0=1 (0 to 2), parameter_1=1 (0 to 2), ")) << parameters;
    EXPECT_TRUE(parameters.ends_with(", parameter_19=1 (0 to 2) ")) << parameters;
    EXPECT_EQ(std::ranges::count(parameters, '='), 20);
}

TEST(PolicyList, HasEveryPolicyOnceInTheOrderOfTheList) {
    const auto all = demo::describe_all_policies();
    const std::vector<std::string> lines = lines_of(printed(all));
    std::vector<std::string> names;
    std::map<std::string, std::string> line_of;
    for (const std::string& line : lines) {
        if (line.empty()) break;  // below stands what all take
        const std::string word = line.substr(0, line.find(' '));
        if (word.empty() || word == "NAME") continue;
        names.push_back(word);
        line_of[word] = line;
    }
    EXPECT_EQ(names, std::vector<std::string>(ms::any_policy::names.begin(), ms::any_policy::names.end()));
    const auto has = [&](const std::string& name, const std::string& part) {
        return line_of[name].find(part) != std::string::npos;
    };
    EXPECT_TRUE(has("h2o", " head ") && has("h2o", "probabilities") && has("h2o", "2306.14048")) << line_of["h2o"];
    EXPECT_TRUE(has("tova", " layer ") && has("tova", "probabilities") && has("tova", "2401.06104"));
    EXPECT_TRUE(has("window", "nothing")) << line_of["window"];
    EXPECT_TRUE(has("full", " never ")) << line_of["full"];
}

TEST(PolicyList, FitsEveryTerminal) {
    for (const std::size_t columns : {40U, 60U, 80U, 100U}) {
        const std::vector<std::string> lines = lines_of(printed(demo::describe_all_policies(), columns));
        std::size_t names = 0;
        for (const std::string& line : lines) {
            EXPECT_LE(line.size(), columns) << line;
            if (line.empty()) break;  // below stands what all take
            names += line.front() != ' ' ? 1 : 0;
        }
        EXPECT_EQ(names, ms::any_policy::names.size() + 1) << columns;
    }
}

TEST(PolicyList, PresetsSayWhatTheySetOtherwise) {
    EXPECT_EQ(demo::presets_of("snapkv"),
              (std::vector<std::string>{"snapkv:runs: the same",
                                        "snapkv:class: window=64, width=5, greatest=false, zero_padded=true"}));
    EXPECT_TRUE(demo::presets_of("criticalkv").empty());
    const std::vector<std::string> lines = lines_of(printed(demo::describe_all_policies()));
    EXPECT_EQ(std::ranges::count(lines, "    snapkv:class: window=64, width=5, greatest=false, zero_padded=true"), 1);
}

/// What is listed as a default can be written, and means no change.
TEST(PolicyList, DefaultsCanBeWritten) {
    for (const policy_description& p : demo::describe_all_policies()) {
        for (const auto& parameter : p.parameters) {
            const std::string text = p.name + "(" + parameter.name + "=" + parameter.value + ")";
            const auto specs = demo::parse_policies(text);
            ASSERT_EQ(specs.size(), 1U) << text;
            const policy_description again = demo::describe(specs.front().policy);
            for (std::size_t i = 0; i < p.parameters.size(); ++i) {
                EXPECT_EQ(again.parameters[i].value, p.parameters[i].value) << text;
            }
        }
    }
}

}  // namespace policy_list_test
