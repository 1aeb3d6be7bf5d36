// The report of the benchmarks, from results that are made up.
#include "report.hpp"

#include <fstream>
#include <iterator>
#include <stdexcept>

#include <gtest/gtest.h>

namespace {

using bench::result;

std::string tables(std::vector<result> results) { return bench::markdown(results); }

TEST(Report, OneTableForEachFamilyOneColumnForEachPartOfTheName) {
    EXPECT_EQ(tables({{"softmax/64", {{"ns/element", 1.234}, {"eigen/ours", 2.5}, {"scalar/ours", 10}}},
                      {"softmax/256", {{"ns/element", 0.5}, {"read/ours", 0.25}, {"memcpy/ours", 0.5}}}}),
              "\n### Softmax\n\n"
              "| n | ns/element | eigen/ours | scalar/ours | read/ours | memcpy/ours |\n"
              "| - | - | - | - | - | - |\n"
              "| 64 | 1.23 | 2.50 | 10.00 |  |  |\n"
              "| 256 | 0.50 |  |  | 0.250 | 0.500 |\n");
}

TEST(Report, PoliciesGoAcross) {
    const std::string text = tables({{"step/window/int8/32x8/512", {{"step/attention", 1.001}}},
                                     {"step/tova/int8/32x8/512", {{"step/attention", 1.02}}},
                                     {"step/tova/int8/32x8/4096", {{"step/attention", 1.03}}}});
    EXPECT_NE(text.find("| codec | heads | states | window | tova |\n"
                        "| - | - | - | - | - |\n"
                        "| int8 | 32x8 | 512 | 1.001 | 1.020 |\n"
                        "| int8 | 32x8 | 4096 |  | 1.030 |\n"),
              std::string::npos)
        << text;
}

TEST(Report, AGoalIsHeldAgainstTheWorst) {
    const std::string text = tables({{"step_and_rivals/f16/32x32/512", {{"eigen/step", 3}}},
                                     {"step_and_rivals/bf16/32x32/512", {{"eigen/step", 2.5}}},
                                     {"step_and_rivals/int8/32x32/512", {{"eigen/step", 1}}},  // not of this goal
                                     {"softmax/65536", {{"ns/element", 0.375}}}});
    EXPECT_NE(text.find("| at least 2.80 | 2.50 | step_and_rivals/bf16/32x32/512 | no |\n"), std::string::npos) << text;
    EXPECT_NE(text.find("| at most 0.40 | 0.38 | softmax/65536 | yes |\n"), std::string::npos) << text;
    EXPECT_EQ(text.find("GQA"), std::string::npos) << "a goal without results is not mentioned\n" << text;
}

TEST(Report, AFamilyThatNobodyDescribedShowsAllItsCounters) {
    EXPECT_EQ(tables({{"new/a/b", {{"x", 1}, {"y", 2}}}}),
              "\n### new\n\n| benchmark | x | y |\n| - | - | - |\n| a/b | 1.00 | 2.00 |\n");
}

TEST(Report, AFailureIsSaid) {
    EXPECT_NE(
        tables({{"least/64", {}, "the two chose differently"}}).find("| 64 | failed: the two chose differently |"),
        std::string::npos);
}

class ReportFile : public testing::Test {
  protected:
    std::filesystem::path file =
        std::filesystem::temp_directory_path() /
        (std::string("multistate_report_") + testing::UnitTest::GetInstance()->current_test_info()->name() + ".md");
    const std::string first{bench::first_marker}, last{bench::last_marker};

    void TearDown() override { std::filesystem::remove(file); }
    void write(const std::string& text) const { std::ofstream(file) << text; }
    std::string read() const {
        std::ifstream in(file);
        return {std::istreambuf_iterator<char>(in), {}};
    }
};

TEST_F(ReportFile, OnlyWhatLiesBetweenTheMarkersChanges) {
    write("before\n" + first + "\nold\n" + last + "\nafter\n");
    bench::write_between_markers(file, "new");
    EXPECT_EQ(read(), "before\n" + first + "\n\nnew\n" + last + "\nafter\n");
    bench::write_between_markers(file, "newer");
    EXPECT_EQ(read(), "before\n" + first + "\n\nnewer\n" + last + "\nafter\n");
    EXPECT_FALSE(std::filesystem::exists(file.string() + ".new"));
}

TEST_F(ReportFile, WithoutMarkersNothingChanges) {
    for (const std::string& text :
         {std::string("text\n"), first + "\n", last + "\n" + first + "\n", first + first + last, std::string()}) {
        write(text);
        EXPECT_THROW(bench::require_markers(file), std::runtime_error);
        EXPECT_THROW(bench::write_between_markers(file, "new"), std::runtime_error);
        EXPECT_EQ(read(), text);
    }
    EXPECT_THROW(bench::require_markers(file.string() + ".none"), std::runtime_error);
}

}  // namespace
