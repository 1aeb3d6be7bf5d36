#pragma once

// The umbrella of the recurrent cells.
//
//     #include <multistate/recurrent/recurrent.hpp>           // not part of multistate.hpp
//
//     ms::min_gru, ms::min_lstm                               // gates depend on the input alone: parallel over time
//     ms::selective                                           // Mamba's block: parallel over time
//     ms::gru, ms::lstm                                       // classic cells: one token after another
//
// cell.hpp says how every cell is called. Two headers are not included here: replaced_heads.hpp (cells that serve some
// attention heads of a layer; it includes cache and attention) and head_selection.hpp (which heads to replace).
#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/gru.hpp"
#include "multistate/recurrent/lstm.hpp"
#include "multistate/recurrent/min_gru.hpp"
#include "multistate/recurrent/min_lstm.hpp"
#include "multistate/recurrent/selective.hpp"
