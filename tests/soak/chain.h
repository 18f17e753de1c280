// Calls that each need the last one's result, queued without waiting: on one communicator over
// several streams (its calls run in call order), and over two communicators on one stream.
#pragma once

#include <string>
#include <vector>

#include "soak/teams.h"

namespace soak {

void chain(Context& context, const Teams& teams, const std::vector<cudaStream_t>& streams,
           Random& random, const std::string& where);

}  // namespace soak
