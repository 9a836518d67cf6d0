#include "common/wire/cmq_json_in.h"
