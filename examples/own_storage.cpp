// Only the decision: your engine keeps its own keys, values and attention. A table says which row to overwrite;
// `tables` has all tables of a model.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <random>
#include <span>
#include <vector>

#include <multistate/multistate.hpp>

namespace ms = multistate;

namespace {

std::mt19937 random_bits(1);

void fill(std::span<float> x) {
    std::normal_distribution<float> normal;
    for (float& one : x) one = normal(random_bits);
}

/// One KV head that one query head reads, and a policy that looks at attention alone.
void one_table() {
    constexpr std::size_t dimension = 32, states = 16;
    ms::table<ms::tova> table({.states = states});

    // Your storage: as many rows as the table has, one more than survive.
    std::vector<float> keys(table.rows() * dimension), query(dimension), probabilities(table.rows());
    for (ms::position position = 0; position < 100; ++position) {
        const std::size_t row = table.place(position);  // a free row, or the row of the state forgotten
        for (const auto& gone : table.forgotten()) {
            if (position == 99) std::cout << "token " << gone.position << " was forgotten, row " << row << " reused\n";
        }
        fill(std::span(keys).subspan(row * dimension, dimension));

        fill(query);  // your attention over rows [0, size), in any order
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

/// Your storage of a model: [layer][KV head][row][dimension], in whatever precision and on whatever pages.
struct engine {
    ms::shape shape;
    std::size_t rows;
    std::vector<double> keys = std::vector<double>(shape.layers * shape.kv_heads * rows * shape.head_dim);
    std::vector<double> values = keys;

    double* key(std::size_t layer, std::size_t kv_head, std::size_t row) { return &keys[at(layer, kv_head, row)]; }
    double* value(std::size_t layer, std::size_t kv_head, std::size_t row) { return &values[at(layer, kv_head, row)]; }
    std::size_t at(std::size_t layer, std::size_t kv_head, std::size_t row) const {
        return ((layer * shape.kv_heads + kv_head) * rows + row) * shape.head_dim;
    }
};

/// All layers and heads, and a policy that reads stored rows and merges what it forgets into what stays.
void a_model() {
    ms::tables<ms::d2o> tables({.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 32, .states = 16});
    const ms::shape& shape = tables.shape();
    engine mine{.shape = shape, .rows = tables.layer(0).rows()};

    // How the policy reads your rows, and how it changes them. What is not wanted is empty.
    ms::reading stored(
        shape,
        [&](std::size_t layer, std::size_t kv_head, std::size_t row, std::span<float> key, std::span<float> value) {
            const auto to_float = [](double x) { return static_cast<float>(x); };
            std::transform(mine.key(layer, kv_head, row), mine.key(layer, kv_head, row) + key.size(), key.begin(),
                           to_float);
            std::transform(mine.value(layer, kv_head, row), mine.value(layer, kv_head, row) + value.size(),
                           value.begin(), to_float);
        },
        [&](std::size_t layer, std::size_t kv_head, std::size_t row, std::span<const float> key,
            std::span<const float> value) {
            std::ranges::copy(key, mine.key(layer, kv_head, row));
            std::ranges::copy(value, mine.value(layer, kv_head, row));
        });

    std::vector<float> k(shape.kv_heads * shape.head_dim), v(k.size()), probabilities;
    for (ms::position position = 0; position < 100; ++position) {
        for (std::size_t layer = 0; layer < shape.layers; ++layer) {
            fill(k);
            fill(v);
            const bool done = tables.layer(layer).append(
                {.first = position, .k = k, .v = v}, stored,
                [&](std::size_t kv_head, std::size_t row,
                    std::span<const ms::relocation>) {  // moves: with slack or blocks
                    std::copy_n(&k[kv_head * shape.head_dim], shape.head_dim, mine.key(layer, kv_head, row));
                    std::copy_n(&v[kv_head * shape.head_dim], shape.head_dim, mine.value(layer, kv_head, row));
                });
            if (!done) return;  // only policies that never forget refuse a token

            // Your attention, [heads, size]; every KV head of this layer holds the same number of rows.
            const std::size_t size = tables.layer(layer).size();
            probabilities.resize(shape.heads * size);
            fill(probabilities);
            for (std::size_t h = 0; h < shape.heads; ++h) ms::softmax(std::span(probabilities).subspan(h * size, size));
            tables.layer(layer).observe(probabilities);
        }
    }
    for (std::size_t h = 0; h < shape.kv_heads; ++h) {
        std::cout << "KV head " << h << " of layer 1 kept:";
        for (const ms::position p : tables.layer(1).positions(h)) std::cout << ' ' << p;
        std::cout << '\n';
    }
}

}  // namespace

int main() {
    one_table();
    a_model();
}
