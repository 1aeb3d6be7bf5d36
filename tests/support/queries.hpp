#pragma once

// Tables driven by hand-given queries.
#include <vector>

#include <multistate/table.hpp>

namespace support {

/// Shows a table the queries of the token placed last, one for each query head.
template <class Table>
void ask(Table& table, const std::vector<std::vector<float>>& heads) {
    std::vector<float> flat;
    for (const auto& head : heads) flat.insert(flat.end(), head.begin(), head.end());
    const std::size_t width = heads.front().size();
    table.observe_queries({flat.data(), heads.size(), width, width}, table.size());
}

}  // namespace support
