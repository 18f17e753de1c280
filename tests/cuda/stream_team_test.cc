#include "cuda/stream_ranks.h"
