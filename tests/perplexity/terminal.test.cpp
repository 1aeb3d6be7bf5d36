// Text that fits the terminal.
#include "terminal.hpp"

#include <cstdlib>
#include <sstream>
#include <unistd.h>

#include <gtest/gtest.h>

namespace terminal_test {

TEST(Wrapped, WordsInLinesThatFit) {
    EXPECT_EQ(demo::wrapped("one two three four", {.width = 9}), "one two\nthree\nfour");
    EXPECT_EQ(demo::wrapped("one two three", {.width = 9, .indent = 2}), "one two\n  three");
    EXPECT_EQ(demo::wrapped("one two", {.width = 9, .indent = 4, .begun = 4}), "one\n    two");
    EXPECT_EQ(demo::wrapped("a_word_that_is_too_long b", {.width = 5}), "a_word_that_is_too_long\nb");
    EXPECT_EQ(demo::wrapped("10 ± 2 x", {.width = 8}), "10 ± 2 x");  // ± takes two bytes, and one column
    EXPECT_EQ(demo::wrapped("", {.width = 5}), "");
    EXPECT_EQ(demo::wrapped("  two   spaces ", {.width = 50}), "two spaces");
}

TEST(Duration, IsShort) {
    EXPECT_EQ(demo::duration_text(0), "0 s");
    EXPECT_EQ(demo::duration_text(58.2), "59 s");
    EXPECT_EQ(demo::duration_text(60), "1:00");
    EXPECT_EQ(demo::duration_text(247), "4:07");
    EXPECT_EQ(demo::duration_text(2 * 3600 + 3 * 60 + 9), "2:03:09");
    EXPECT_EQ(demo::duration_text(-1), "0 s");
}

TEST(Progress, NeverFillsTheLine) {
    const std::string name = "h2o(recent=0.25,sinks=2,slack=16)|value_norm|pool(width=7), k = 1024";
    for (std::size_t columns = 20; columns <= 140; ++columns) {
        for (const std::size_t done : {0U, 1U, 50U, 100U}) {
            const std::string line = demo::progress_line({done, 100, 3600, name}, columns);
            EXPECT_LT(line.size(), columns) << line;
            EXPECT_EQ(line.find('\n'), std::string::npos);
        }
    }
    EXPECT_EQ(demo::progress_line({25, 100, 60, "tova at k = 8"}, 80),
              "[######                    ] 25 %, 3:00 left  tova at k = 8");
    EXPECT_EQ(demo::progress_line({25, 100, 60, "tova at k = 8"}, 40), "[###          ] 25 %, 3:00 left  tova a");
}

TEST(Columns, OfNoTerminalAreTheEnvironments) {
    const int file = ::dup(STDERR_FILENO);
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ::setenv("COLUMNS", "57", 1);
    EXPECT_EQ(demo::terminal_columns(ends[1]), 57U);
    for (const char* odd : {"x", "", "12x"}) {
        ::setenv("COLUMNS", odd, 1);
        EXPECT_EQ(demo::terminal_columns(ends[1]), 80U) << odd;
    }
    ::setenv("COLUMNS", "3", 1);
    EXPECT_EQ(demo::terminal_columns(ends[1]), 20U);
    ::unsetenv("COLUMNS");
    EXPECT_EQ(demo::terminal_columns(ends[1]), 80U);
    for (const int each : {file, ends[0], ends[1]}) ::close(each);
}

}  // namespace terminal_test
