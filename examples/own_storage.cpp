// Only the decision: your engine keeps its own keys, values and attention, a table says which row to overwrite.
#include <cmath>
#include <iostream>
#include <random>
#include <vector>

#include <multistate/multistate.hpp>

namespace ms = multistate;

int main() {
    constexpr std::size_t dimension = 32, states = 16;
    ms::table<ms::tova> table({.states = states});

    // Your storage: as many rows as the table has, one more than survive.
    std::vector<float> keys(table.rows() * dimension), probabilities(table.rows());
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (ms::position position = 0; position < 100; ++position) {
        const std::size_t row = table.place(position);  // a free row, or the row of the state forgotten
        for (const auto& gone : table.forgotten()) {
            if (position == 99) std::cout << "token " << gone.position << " was forgotten, row " << row << " reused\n";
        }
        for (std::size_t i = 0; i < dimension; ++i) keys[row * dimension + i] = normal(random);

        std::vector<float> query(dimension);  // your attention over rows [0, size), in any order
        for (float& x : query) x = normal(random);
        for (std::size_t j = 0; j < table.size(); ++j) {
            float dot = 0;
            for (std::size_t i = 0; i < dimension; ++i) dot += query[i] * keys[j * dimension + i];
            probabilities[j] = dot / std::sqrt(float{dimension});
        }
        ms::softmax(std::span(probabilities).first(table.size()));
        table.observe({probabilities.data(), 1, table.size(), table.size()});  // one query head
    }
    std::cout << "kept:";
    for (const ms::position p : table.positions()) std::cout << ' ' << p;
    std::cout << '\n';
}
