import os
import signal

import pytest

from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.stopping import Stopped, StopSignals
from tests.support.forked import Forked

WORK_FOR_HOURS = """
import time
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.stopping import StopSignals

signals = StopSignals()
signals.listen()
processes = Processes(60, signals)
print("ready", flush=True)
for _ in processes.in_step(range(10**6), together=TOGETHER):
    time.sleep(0.01)
"""


@pytest.fixture
def signals():
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    signals = StopSignals()
    signals.listen()
    yield signals
    signals.restore()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == handlers


def test_a_signal_ends_the_work_before_the_next_item_with_the_status_of_shells(signals):
    work, done = Processes(60, signals).in_step(range(9), together=False), []
    for item in work:
        done.append(item)
        if item == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
            break
    with pytest.raises(Stopped) as stopped:
        next(work)
    assert done == [0, 1, 2]
    assert stopped.value.code == 128 + signal.SIGUSR1
    assert stopped.value.signal is signal.SIGUSR1


def test_work_that_must_not_stop_is_finished(signals):
    os.kill(os.getpid(), signal.SIGTERM)
    processes = Processes(60, signals)
    assert list(processes.in_step(range(3), together=True, may_stop=False)) == [0, 1, 2]
    with pytest.raises(Stopped):
        list(processes.in_step((), together=True))


def test_repeated_signals_change_nothing_but_a_second_ctrl_c_ends_at_once(signals):
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signals.received == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("together", [True, False])
def test_a_signal_to_one_process_soon_ends_the_work_of_the_other(together):
    processes = Forked("python", "-c", WORK_FOR_HOURS.replace("TOGETHER", str(together)), num_processes=2)
    processes.wait_for(lambda: processes.output.count("ready") == 2)
    processes.send_signal(signal.SIGTERM, rank=1)
    assert processes.ended(20) == [143, 143], processes.output
