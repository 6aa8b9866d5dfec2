"""The line in which work waits."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jichu.ship.server.errors import Busy
from jichu.ship.server.line import Job, Line

ROOM = 10


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 14)), st.tuples(st.just("take"), st.integers(0, 8))
        )
    )
)
def test_what_is_put_is_taken_once_in_its_order_and_never_more_than_there_is_room_for(steps):
    async def walk():
        line, waiting, number = Line(ROOM), [], 0
        for kind, count in steps:
            if kind == "put":
                number += 1
                job = Job("a", number, count)
                full = waiting and sum(rows for _, rows in waiting) + count > ROOM
                if full:
                    with pytest.raises(Busy):
                        line.put([job])
                else:
                    line.put([job])
                    waiting.append((number, count))
            else:
                taken = [(job.given, job.rows) for job in line.take(count, block=False)]
                assert taken == waiting[: len(taken)]
                del waiting[: len(taken)]
                rows = sum(rows for _, rows in taken)
                assert rows <= count or (len(taken) == 1 and count)
                assert not count or not waiting or rows + waiting[0][1] > count
            assert line.rows == sum(rows for _, rows in waiting)
        line.close()
        assert [job.given for job in line.take(10**6)] == [number for number, _ in waiting] and line.closed
        with pytest.raises(Busy):
            line.put([Job("a", 0, 1)])

    asyncio.run(walk())


def test_who_has_gone_is_passed_over():
    async def walk():
        line = Line(ROOM)
        jobs = [Job("a", number, 2) for number in range(4)]
        line.put(jobs)
        jobs[0].future.cancel()
        jobs[2].future.cancel()
        assert [job.given for job in line.take(4)] == [1, 3] and not line.rows

    asyncio.run(walk())
