/*
 * bell: the doorbell of common/shm/cmq_bell.c, an eventcount: sequence number and a mask of parked waiters. Spin model.
 *
 * Happy path:
 *   - a waiter looks for work; there is none; it reads seq, sets its parked bit, fence, and looks AGAIN at everything;
 *   - still none: FUTEX_WAIT while seq is the value it read;
 *   - a publisher makes work visible, fence, and looks at the mask; if a bit is set: seq + 1, FUTEX_WAKE(1);
 *   - the woken waiter clears its bit and looks for work.
 *
 * What can go wrong:
 *   - PUBLISHER_DIES: killed after the work is visible, before the wake. Nobody wakes: only a time-out helps (TIMEOUT);
 *   - WAITER_DIES: killed after it was woken, before it took the work; the wake is used up. The same.
 *
 * The waiters share the work (encryptors, dispatchers), each wake call wakes one. With EACH every waiter must see every
 * piece (waiters for space), and a wake call wakes all.
 *
 * Checked: no deadlock, that is: nobody sleeps for ever while there is work, and all work is taken.
 * The model is sequentially consistent: the two fences of the program give just that for the four accesses in question.
 */

#ifndef WAITERS
#define WAITERS 2
#endif
#ifndef WORK
#define WORK 2              /* per publisher; two publishers */
#endif

#define ALL_WORK (2 * WORK)
#ifdef SHARED_BIT
#define BIT(id) 1           /* mutant: two waiters with one bit clear each other's */
#else
#define BIT(id) (1 << (id))
#endif
#ifdef EACH
#define MINE(id) (id)
#else
#define MINE(id) 0
#endif

byte visible;               /* work */
byte taken[WAITERS];        /* without EACH only the first */
byte seq, parked;           /* the bell */
byte sleeping;              /* the futex queue: how many, and who */
bit asleep[WAITERS];
byte deaths;

#define WORK_LEFT (taken[MINE(id)] < visible)
#define OVER      (taken[MINE(id)] == ALL_WORK)

#ifdef EACH
inline wake()
{
    d_step {
        k = 0;
        do
        :: k < WAITERS -> asleep[k] = 0; k++
        :: else -> break
        od;
        k = 0; sleeping = 0
    }
}
#else
inline wake()
{
    atomic {
        if
        :: sleeping > 0 ->
            if
            :: asleep[0] -> asleep[0] = 0
#if WAITERS > 1
            :: asleep[1] -> asleep[1] = 0
#endif
#if WAITERS > 2
            :: asleep[2] -> asleep[2] = 0
#endif
            fi;
            sleeping--
        :: else
        fi
    }
}
#endif

proctype Publisher()
{
    byte i;
#ifdef EACH
    byte k;
#endif
    do
    :: i < WORK ->
        visible++; i++;
#ifdef PUBLISHER_DIES
        if :: atomic { deaths < 1 -> deaths++ }; goto next :: skip fi;
#endif
        if
        :: parked != 0 -> seq++; wake()
        :: else
        fi;
next:   skip
    :: else -> break
    od
}

proctype Waiter(byte id)
{
    byte seen;
#ifdef STALE_LOOK
    byte stale;
#endif
again:
    do
    :: atomic { WORK_LEFT -> taken[MINE(id)]++ }
    :: OVER -> goto end
    :: else ->
#ifdef STALE_LOOK
        stale = visible;                                    /* mutant: what the look below remembers */
#endif
        seen = seq;
#ifdef LOOK_FIRST
        if :: WORK_LEFT -> goto again :: else fi;           /* mutant: looks, then sets the bit */
        atomic { parked = parked | BIT(id) };
#else
        atomic { parked = parked | BIT(id) };
#ifdef STALE_LOOK
        if :: taken[MINE(id)] < stale || OVER -> goto clear :: else fi;
#else
        if :: WORK_LEFT || OVER -> goto clear :: else fi;
#endif
#endif
        atomic {                                            /* FUTEX_WAIT compares and queues in one step */
            if
            :: seq == seen -> asleep[id] = 1; sleeping++
            :: else -> goto clear
            fi
        };
        /* The end of the run is not part of the protocol, so it needs no bell. */
        if
        :: !asleep[id] ->
#ifdef WAITER_DIES
            if :: atomic { deaths < 1 -> deaths++ }; goto dead :: skip fi;
#endif
            skip
        :: atomic { OVER && asleep[id] -> asleep[id] = 0; sleeping-- }
#ifdef TIMEOUT
        :: atomic { timeout && asleep[id] -> asleep[id] = 0; sleeping-- }
#endif
        fi;
clear:  atomic { parked = parked & ~BIT(id) };
        seen = 0
    od;
dead: skip;                 /* its bit stays set; it is not restarted here: the others must do the work */
end: skip
}

init {
    byte i;
    atomic {
        run Publisher(); run Publisher();
        i = 0; do :: i < WAITERS -> run Waiter(i); i++ :: else -> break od
    };
    (_nr_pr == 1);
    assert(taken[0] == ALL_WORK)
}
