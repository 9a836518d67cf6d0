#include "common/wire/cmq_json_out.h"
