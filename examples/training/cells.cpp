#include "cells.hpp"

#include <stdexcept>

#include <multistate/recurrent/gru.hpp>
#include <multistate/recurrent/lstm.hpp>
#include <multistate/recurrent/min_gru.hpp>
#include <multistate/recurrent/min_lstm.hpp>

#include "recurrent.hpp"

namespace training {

namespace {

/// PyTorch's ranges: by the inputs of a linear map of x, by the units where the state is mapped too.
template <class Cell>
std::unique_ptr<layer> make(const cell_size& size, std::size_t fan_in) {
    typename Cell::shape_type shape{};
    shape.inputs = size.inputs;
    shape.units = size.units;
    return std::make_unique<recurrent<Cell>>(shape, fan_in);
}

}  // namespace

std::unique_ptr<layer> make_cell(std::string_view name, const cell_size& size) {
    namespace ms = multistate;
    if (name == ms::gru::name) return make<ms::gru>(size, size.units);
    if (name == ms::lstm::name) return make<ms::lstm>(size, size.units);
    if (name == ms::min_gru::name) return make<ms::min_gru>(size, size.inputs);
    if (name == ms::min_lstm::name) return make<ms::min_lstm>(size, size.inputs);
    throw std::invalid_argument("there is no cell '" + std::string(name) + "'");
}

}  // namespace training
