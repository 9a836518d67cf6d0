/*
 * arena: why encryptors cannot deadlock on memory (docs/RINGS.md 2.6). Spin model.
 *
 * Happy path:
 *   - an encryptor leases the lowest free record, but only if its arena has room for the largest result;
 *   - it commits the result; results are freed first in, first out, once the gate has passed their records;
 *   - the gate passes committed records in order. (All records are published from the start.)
 *
 * What goes wrong: an encryptor with the lease of record h stops for ever (SIGSTOP), or dies and comes again with an
 * empty arena. Then another one steals h. Its arena may be full of records above h, which the gate cannot pass before h
 * is committed. So a stolen record for which there is no room goes into the reserve, one place that is kept for this. The
 * reserve is free again when the gate has passed the record that was put there last.
 *
 * Checked: no deadlock; no place is written while a live word names it; the head is always leased to somebody who can
 * finish, or can be stolen.
 *
 * Mutants:
 *   NO_RESERVE    a thief needs room in its arena
 *   LEASE_FIRST   a lease, stolen or not, is taken first, then its owner waits for room; no reserve
 *   RESERVE_BLIND the reserve is written again without looking at the gate
 *   RECLAIM_BLIND results are freed when they are committed
 */

#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef TOTAL
#define TOTAL 5
#endif
#ifndef ENCRYPTORS
#define ENCRYPTORS 2
#endif
#ifndef PLACES
#define PLACES 2            /* results of the largest size that an arena holds, the reserve not counted */
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif

#define RESERVE PLACES      /* index of the reserve among the places */
#define NONE    255

byte gate;
byte next;                  /* lowest record that was never leased; first leases are taken in order */
byte head;                  /* lowest uncommitted record */
bit committed[TOTAL];
byte owner[TOTAL];          /* of the lease */
byte stops, deaths;

#if defined(LEASE_FIRST)
#define ROOM_FOR_LEASE true
#define ROOM_FOR_STEAL true
#elif defined(NO_RESERVE)
#define ROOM_FOR_LEASE (used < PLACES)
#define ROOM_FOR_STEAL (used < PLACES)
#elif defined(RESERVE_BLIND)
#define ROOM_FOR_LEASE (used < PLACES)
#define ROOM_FOR_STEAL true
#else
#define ROOM_FOR_LEASE (used < PLACES)
#define ROOM_FOR_STEAL (used < PLACES || named[RESERVE] == NONE || named[RESERVE] < gate)
#endif

#ifdef RECLAIM_BLIND
#define HISTORY(n) committed[n]
#else
#define HISTORY(n) ((n) < gate)
#endif
#define OLDEST_IS_HISTORY (used > 0 && HISTORY(named[first]))

inline free_oldest()
{
    used--;
    if :: named[first] < gate -> named[first] = NONE :: else fi;    /* the ghost stays if a word still names it */
    if :: used > 0 -> first = (first + 1) % PLACES :: else -> first = 0 fi
}

proctype Encryptor(byte me)
{
    byte named[PLACES + 1]; /* record whose word names this place of the arena, or NONE */
    byte first, used;       /* the first-in first-out part */
    byte n, place;

birth:
    skip;
    d_step {
        place = 0;
        do
        :: place <= RESERVE -> named[place] = NONE; place++
        :: else -> break
        od;
        first = 0; used = 0; n = 0; place = 0
    };
again:
    if
    :: atomic { OLDEST_IS_HISTORY -> free_oldest(); goto again }
    :: atomic { next < TOTAL && next < gate + SLOTS && ROOM_FOR_LEASE -> n = next; next++; owner[n] = me }
    :: atomic { head < next && owner[head] != me && ROOM_FOR_STEAL -> n = head; owner[n] = me }
    :: atomic { gate == TOTAL -> goto end }
    fi;
    if
    :: atomic { stops < STOPS -> stops++; goto end }
    /* A new incarnation, with a new id and a new arena; the old arena stays while words name it. */
    :: atomic { deaths < DEATHS -> deaths++; if :: owner[n] == me -> owner[n] = NONE :: else fi; goto birth }
    :: skip
    fi;
#ifdef LEASE_FIRST
wait:
    if
    :: atomic { OLDEST_IS_HISTORY -> free_oldest(); goto wait }
    :: used < PLACES
    :: atomic { committed[n] -> goto lost }
    fi;
#endif
    atomic {
        if
        :: used < PLACES -> place = (first + used) % PLACES
        :: else -> place = RESERVE
        fi;
        /* The result is written here. */
        assert(named[place] == NONE || named[place] < gate);
        named[place] = NONE
    };
    atomic {                                                /* commit: the first one wins */
        if
        :: !committed[n] ->
            committed[n] = 1; owner[n] = NONE;
            named[place] = n;
            if :: place != RESERVE -> used++ :: else fi;
            do
            :: head < TOTAL -> if :: committed[head] -> head++ :: else -> break fi
            :: else -> break
            od
        :: else
        fi
    };
lost:
    atomic { n = 0; place = 0; goto again };
end: skip
}

proctype Gate()
{
    do
    :: gate < TOTAL -> atomic { committed[gate] -> gate++ }
    :: else -> break
    od
}

init {
    byte i;
    atomic {
        run Gate();
        i = 0; do :: i < ENCRYPTORS -> run Encryptor(i); i++ :: else -> break od;
        i = 0
    };
    (_nr_pr == 1)
}
