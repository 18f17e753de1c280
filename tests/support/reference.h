// What a collective must give, computed without any plan: the documented order of who folds what,
// evaluated serially.
#pragma once

#include <cstddef>
#include <vector>

#include "collectives/catalog.h"

namespace slimccl::testing {

// Inputs of all ranks (each as the C call's sendbuff), their scales; returns what rank `rank` must
// hold in recvbuff (nothing where it is not used). An in-place all-gather's own slot under a codec
// stays as it was: `in_place` says so. `shape` is cut as the row does.
[[nodiscard]] std::vector<std::byte> expected_output(
    const collectives::Row& row, const collectives::Shape& shape,
    const collectives::Topology& topology, const collectives::Codecs& codecs,
    const std::vector<std::vector<std::byte>>& inputs, const std::vector<quant::Scalar>& scales,
    int rank, bool in_place);

}  // namespace slimccl::testing
