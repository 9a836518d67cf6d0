/*
 * outcome: the two words that tell publishers what became of a record (cmq_ring_log.c, W1 to W4 and R1 to R4). Spin model.
 *
 * One slot, used for record 0, then 1, 2, ...: the lap is the record's number here.
 *
 *   - the log writer sets the outcome of record n in three stores, then moves `stored` to n + 1;
 *   - it may die after any of them; the next one decides the same for n, and writes all of it again, or finds a whole
 *     outcome there and leaves it;
 *   - a publisher asks for any record below `stored`, at any time, and gets its outcome or nothing.
 *
 * Checked: what is told of n is the pair that was set for n; at the end the last record's outcome is told.
 */

#ifndef LAPS
#define LAPS 4
#endif
#ifndef READERS
#define READERS 2
#endif
#define OPEN     15
#define KIND(n)  (n % 3 + 1)
#define VALUE(n) (n + 100)

byte word_lap = 255, word_kind;     /* one word: always stored and loaded in one step */
byte value;
byte stored;

#define MAY_DIE if :: goto again :: skip fi

proctype Writer()
{
    byte n;
again:
    n = stored;
    do
    :: n < LAPS ->
        if
        :: atomic { word_lap == n && word_kind != OPEN -> skip }        /* a predecessor's, whole */
        :: atomic { word_lap != n || word_kind == OPEN -> skip };
#ifndef NO_OPEN
            atomic { word_lap = n; word_kind = OPEN };
            MAY_DIE;
#endif
#ifdef WORD_FIRST
            atomic { word_lap = n; word_kind = KIND(n) };
            MAY_DIE;
            value = VALUE(n);
#else
            value = VALUE(n);
            MAY_DIE;
            atomic { word_lap = n; word_kind = KIND(n) };
#endif
            MAY_DIE
        fi;
        stored = n + 1;
        MAY_DIE;
        n++
    :: else -> break
    od
}

proctype Publisher()
{
    byte n, lap, kind, got;
    do
    :: atomic { stored > 0 -> n = 0; do :: n + 1 < stored -> n++ :: break od };
        atomic { lap = word_lap; kind = word_kind };
        got = value;
        atomic {
            if
#ifdef NO_RECHECK
            :: lap == n && kind != OPEN ->
#else
            :: lap == n && kind != OPEN && word_lap == lap && word_kind == kind ->
#endif
                assert(kind == KIND(n) && got == VALUE(n))
            :: else
            fi;
            n = 0; lap = 0; kind = 0; got = 0
        }
    :: stored == LAPS -> break
    od
}

init {
    byte i;
    atomic {
        run Writer();
        i = 0; do :: i < READERS -> run Publisher(); i++ :: else -> break od
    };
    (_nr_pr == 1);
    assert(word_lap == LAPS - 1 && word_kind == KIND((LAPS - 1)) && value == VALUE((LAPS - 1)))
}
