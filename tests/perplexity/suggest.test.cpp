#include "suggest.hpp"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace suggest_test {

using demo::did_you_mean;
using demo::edit_distance;

TEST(Suggest, EditDistance) {
    EXPECT_EQ(edit_distance("", ""), 0U);
    EXPECT_EQ(edit_distance("tova", "tova"), 0U);
    EXPECT_EQ(edit_distance("", "tova"), 4U);
    EXPECT_EQ(edit_distance("tova", ""), 4U);
    EXPECT_EQ(edit_distance("tova", "tovs"), 1U);
    EXPECT_EQ(edit_distance("tova", "tov"), 1U);
    EXPECT_EQ(edit_distance("tova", "ttova"), 1U);
    EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
    EXPECT_EQ(edit_distance("h2o_layer", "h2o"), 6U);
    EXPECT_EQ(edit_distance("ab", "ba"), 2U);  // a swap is two slips
    EXPECT_EQ(edit_distance("sitting", "kitten"), edit_distance("kitten", "sitting"));
}

TEST(Suggest, TheNearestChoice) {
    const std::vector<std::string> choices{"full", "window", "h2o", "h2o_layer", "tova", "tova_head"};
    const auto suggested = [&](const std::string& word) { return did_you_mean(word, choices); };
    EXPECT_EQ(suggested("tovs"), "; did you mean 'tova'?");
    EXPECT_EQ(suggested("h20"), "; did you mean 'h2o'?");
    EXPECT_EQ(suggested("windwo"), "; did you mean 'window'?");
    EXPECT_EQ(suggested("h2olayer"), "; did you mean 'h2o_layer'?");
    EXPECT_EQ(suggested("tova-head"), "; did you mean 'tova_head'?");
    EXPECT_EQ(suggested("ful"), "; did you mean 'full'?");
    EXPECT_EQ(suggested("streaming"), "");
    EXPECT_EQ(suggested(""), "");
    EXPECT_EQ(suggested(std::string(100000, 'x')), "");
}

TEST(Suggest, CaseAndHyphensAreNoSlips) {
    const std::vector<std::string> choices{"snapkv", "h2o", "tova_head"};
    EXPECT_EQ(did_you_mean("SnapKV", choices), "; did you mean 'snapkv'?");
    EXPECT_EQ(did_you_mean("TOVA-Head", choices), "; did you mean 'tova_head'?");
    EXPECT_EQ(did_you_mean("H2O", choices), "; did you mean 'h2o'?");
}

TEST(Suggest, AWordThatBeginsAChoiceOrThatAChoiceBegins) {
    const std::vector<std::string> choices{"streaming_llm", "h2o"};
    EXPECT_EQ(did_you_mean("streaming", choices), "; did you mean 'streaming_llm'?");
    EXPECT_EQ(did_you_mean("str", choices), "; did you mean 'streaming_llm'?");
    EXPECT_EQ(did_you_mean("st", choices), "");
    EXPECT_EQ(did_you_mean("h2o_of_the_layer", choices), "; did you mean 'h2o'?");
    EXPECT_EQ(did_you_mean("ream", choices), "");
}

TEST(Suggest, SeveralWhereSeveralAreNear) {
    const std::vector<std::string> choices{"cake", "bake", "make", "baker", "lake", "window"};
    EXPECT_EQ(did_you_mean("bakes", choices, 3), "; did you mean 'bake', 'baker' or 'cake'?");
    EXPECT_EQ(did_you_mean("bakes", choices, 2), "; did you mean 'bake' or 'baker'?");
    EXPECT_EQ(did_you_mean("bakes", choices), "; did you mean 'bake'?");
    EXPECT_EQ(did_you_mean("windows", choices, 3), "; did you mean 'window'?");
    EXPECT_EQ(did_you_mean("eviction", choices, 3), "");
    // Two slips are near, but not beside a choice that is none away.
    EXPECT_EQ(did_you_mean("Tova", std::vector<std::string>{"nova", "tov", "noxa", "tova"}, 4),
              "; did you mean 'tova', 'nova' or 'tov'?");
}

TEST(Suggest, OfEqualsTheFirst) {
    EXPECT_EQ(did_you_mean("ac", std::vector<std::string>{"aa", "ab"}), "; did you mean 'aa'?");
    EXPECT_EQ(did_you_mean("ab", std::vector<std::string>{}), "");
}

TEST(Suggest, Lists) {
    EXPECT_EQ(demo::listed(std::vector<std::string>{}), "");
    EXPECT_EQ(demo::listed(std::vector<std::string>{"a"}), "a");
    EXPECT_EQ(demo::listed(std::vector<std::string>{"a", "b", "c"}), "a, b, c");
}

}  // namespace suggest_test
