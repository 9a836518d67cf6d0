/* config: what can be said about settings without a broker. */
#include <stdio.h>

#include "ctl.h"

int ctl_config(struct ctl *ctl)
{
    if (ctl->sample == ctl->reference)
        return ctl_fail(CMQ_EXIT_USAGE, "config: give --sample or --reference");
    if (ctl->sample)
        cmq_conf_print_sample(stdout);
    else
        cmq_conf_print_reference(stdout);
    return CMQ_EXIT_OK;
}
