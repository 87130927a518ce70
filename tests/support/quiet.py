"""That an outage neither ends a process nor fills its log."""

from tests.support.service import Process, Service


def lines(process: Process) -> list[str]:
    """Return what was logged beside each timer's own lines."""
    return [
        line
        for line in process.output().splitlines()
        if "timer delivered" not in line
    ]


class Quiet:
    """Asserts that no process died, and that each said little."""

    def __init__(self, service: Service, *, most: int) -> None:
        self._service = service
        self._most = most
        self._before = [len(lines(each)) for each in service.processes]

    def check(self) -> None:
        """Look at every process since this was made."""
        for process, before in zip(
            self._service.processes, self._before, strict=True
        ):
            assert process.is_running(), process.output()
            said = lines(process)[before:]
            assert len(said) <= self._most, f"{process.name}: {said}"
            assert not any("Traceback" in line for line in said), said
