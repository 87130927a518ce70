"""A timer's life: nothing breaks a promise, unless a guard is missing."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.model.games import GAMES
from tests.model.life import Violation
from tests.model.mutations import MUTATIONS
from tests.model.postgres import Postgres
from tests.model.scheduler import Move, limited, moves, play

pytestmark = pytest.mark.django_db

_SHORT = settings(
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=list(HealthCheck),
)
_SEARCH = settings(_SHORT, max_examples=400, phases=[Phase.generate])
_LONG = settings(_SHORT, derandomize=False, max_examples=5000)
_games = moves(40, 80)
_limited_games = limited(_games)
_any_game = given(most=st.sampled_from([1, 1, 2, 5]), game=_games)


@pytest.mark.timeout(900)  # a busy machine takes ten times as long
@pytest.mark.parametrize("most", [1, 5])
@_SHORT
@given(game=_games)
def test_no_game_breaks_a_promise(
    postgres: Postgres, most: int, game: list[Move]
) -> None:
    play(postgres, most, game)


@pytest.mark.timeout(900)
@_SHORT
@given(game=_limited_games)
def test_no_game_within_a_limit_breaks_a_promise(
    postgres: Postgres, game: list[Move]
) -> None:
    play(postgres, 2, game)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@_LONG
@given(
    most=st.sampled_from([1, 1, 2, 5]),
    game=st.one_of(_games, _games, _limited_games),
)
def test_no_game_of_many_breaks_a_promise(
    postgres: Postgres, most: int, game: list[Move]
) -> None:
    play(postgres, most, game)


@pytest.mark.parametrize("guard", GAMES)
def test_each_guard_decides_its_game(postgres: Postgres, guard: str) -> None:
    most, game = GAMES[guard]
    play(postgres, most, game)
    with MUTATIONS[guard].applied(), pytest.raises(Violation):
        play(postgres, most, game)


@pytest.mark.chaos
@pytest.mark.parametrize("guard", sorted(MUTATIONS.keys() - GAMES.keys()))
def test_the_search_finds_that_a_guard_is_missing(
    postgres: Postgres, guard: str
) -> None:
    @_SEARCH
    @_any_game
    def search(most: int, game: list[Move]) -> None:
        play(postgres, most, game)

    with MUTATIONS[guard].applied(), pytest.raises(Violation):
        search()
