#pragma once

// Tables driven by hand-given probabilities.
#include <algorithm>
#include <initializer_list>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/table/table.hpp>

namespace support {

/// Shows a table one row of probabilities per query head.
template <class Table>
void observe(Table& table, const std::vector<std::vector<float>>& heads) {
    std::vector<float> flat;
    for (const auto& head : heads) flat.insert(flat.end(), head.begin(), head.end());
    const std::size_t width = heads.front().size();
    table.observe({flat.data(), heads.size(), width, width});
}

/// Places positions [0, count), each attending evenly.
template <class Table>
void fill(Table& table, int count, std::size_t heads) {
    for (int p = 0; p < count; ++p) {
        EXPECT_NE(table.place(p), multistate::no_row);
        const std::vector<float> even(table.size(), 1 / static_cast<float>(table.size()));
        observe(table, std::vector<std::vector<float>>(heads, even));
    }
}

/// The positions held, ascending.
template <class Table>
std::vector<int> held(const Table& table) {
    std::vector<int> result(table.positions().begin(), table.positions().end());
    std::sort(result.begin(), result.end());
    return result;
}

/// The positions forgotten by the last call, in the order of the decisions.
template <class Table>
std::vector<int> forgotten(const Table& table) {
    std::vector<int> result;
    for (const auto& one : table.forgotten()) result.push_back(one.position);
    return result;
}

}  // namespace support
