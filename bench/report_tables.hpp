#pragma once

// What the report shows: the goals, and of each family the columns of its table.
#include <regex>
#include <string>
#include <vector>

namespace bench {

struct column {
    std::string counter;
    std::string heading;
    double factor = 1;
    int decimals = 2;
};

struct family {
    std::string name;  ///< the first part of its benchmarks' names
    std::string title;
    std::vector<std::string> parts;  ///< headings of the other parts
    std::vector<column> columns;
    bool first_part_across = false;  ///< the first of these has a column for each value, filled with columns[0]
    std::string note = {};
};

/// A bound on one counter of every benchmark whose name matches.
struct goal {
    std::string what;
    std::regex names;
    std::string counter;
    bool at_least;
    double bound;
    int decimals = 2;
};

const std::vector<family>& families();
const std::vector<goal>& goals();

}  // namespace bench
