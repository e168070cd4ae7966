"""A key, then apples, then a door: three rooms on MiniGrid's grid, after Key-to-Door (Hung et al. 2019)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Discrete
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Door, Key, Wall, WorldObj
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

from ._base import SmallEnv, check_flag, check_integer, check_number
from ._drawing import FAINT, FLOOR, GOLD, GREEN, INK, VIOLET, WALL, WATER, Canvas, Colour

ROOMS = ("key", "apples", "door")
WALLS = ("grey", "purple", "blue")  # so that the room can be told from the walls in view
KEY_COLOUR = "yellow"
TURN_LEFT, TURN_RIGHT, FORWARD, PICKUP, TOGGLE, DONE = 0, 1, 2, 3, 5, 6
AHEAD = ((1, 0), (0, 1), (-1, 0), (0, -1))
WALL_CODE = (OBJECT_TO_IDX["wall"], COLOR_TO_IDX["grey"], 0)
EMPTY_CODE = (OBJECT_TO_IDX["empty"], 0, 0)


def mission() -> str:
    """The only mission."""
    return "take the key, eat the apples, open the door"


class KeyToDoor(SmallEnv, MiniGridEnv):
    """
    ## Description
    Three rooms, each for a fixed time. In the first lies a key: picking it up pays nothing. The second holds apples,
    which are eaten by walking onto them and pay a little at once. The third has a locked door: opening it pays much, and
    only who took the key can. Between key and door lies the whole time in the second room, filled with rewards that have
    nothing to do with the key. By default the agent does not see that it holds the key, so the value of the third room
    depends on a memory too.

    ## Action Space
    MiniGrid's `Discrete(7)`: 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop (without effect: a key is kept), 5
    toggle (opens the door), 6 done (without effect).

    ## Observation Space
    MiniGrid's `Dict`: ``image`` (uint8, shape `(7, 7, 3)`, the partial view before the agent as object, colour and
    state), ``direction`` (`Discrete(4)`), ``mission`` (always the same). The walls are grey, purple and blue in the
    first, second and third room.

    ## Rewards
    ``door_reward`` for opening the door; for an apple ``apple_reward`` on average: with ``apple_variance`` = 0 exactly
    that, otherwise apple_reward / p with probability p = apple_reward² / (apple_reward² + apple_variance) and 0 else.

    ## Starting State
    In every room the agent, its direction, the key, the apples and the place of the door in the walls are drawn
    uniformly.

    ## Episode End
    Terminates when the door opens or the time in the third room is over (the times are part of the task).

    ## Arguments
    ``room_size`` (5): width and height with the walls, at least 4. ``apples`` (4): how many, at least 0, and at most as
    many as fit beside the agent. ``apple_reward`` (1.0), ``apple_variance`` (0.0; needs an apple_reward above 0),
    ``door_reward`` (10.0): at least 0. ``key_steps`` (30), ``apple_steps`` (40), ``door_steps`` (30): time in each room,
    at least 1; 0 for ``apple_steps`` leaves the second room out. ``show_key`` (False): whether the agent sees the key
    that it holds at its own place in the view, as in MiniGrid.

    `info`: ``phase`` ("key", "apples", "door"); ``position`` (x + y * room_size), ``x`` and ``y``; ``has_key`` (0 or 1);
    ``key_step`` (the step whose action picked up the key, -1 before); ``apples_eaten``; ``success`` (1 if the door has
    opened); ``causal_step`` (on the step that opens the door: ``key_step``; -1 otherwise).

    ## Returns of scripted policies
    ``optimal_action`` takes the shortest way to the key, to the nearest apple, and to the door. It returns 14 in every
    episode of the default arguments (all apples and the door), the greatest possible. Uniformly random: 1.35 (mean of
    2,000 episodes, standard deviation 1.7, standard error 0.04): 1.2 apples, the key in 24 % and the door in 2 % of 4,000
    episodes.

    ## References
    Hung et al. (2019), Optimizing agent behavior over long time scales by transporting value, Nature Communications 10,
    5223 (Key-to-Door). There the view is a first-person image of a 3D room; sizes, times and rewards are our own.
    Chevalier-Boisvert et al. (2023), Minigrid & Miniworld, arXiv 2306.13831 (grid, actions, view).

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # type: ignore[misc]
    state_names = ("step_count", "phase", "phase_step", "has_key", "key_step", "apples_eaten", "success", "agent_dir")

    def __init__(
        self,
        *,
        room_size: int = 5,
        apples: int = 4,
        apple_reward: float = 1.0,
        apple_variance: float = 0.0,
        door_reward: float = 10.0,
        key_steps: int = 30,
        apple_steps: int = 40,
        door_steps: int = 30,
        show_key: bool = False,
        render_mode: str | None = None,
    ) -> None:
        SmallEnv.__init__(self, render_mode=render_mode)
        self.room_size = check_integer("room_size", room_size, 4)
        self.apples = check_integer("apples", apples, 0, (self.room_size - 2) ** 2 - 1)
        self.apple_reward = check_number("apple_reward", apple_reward, 0.0)
        self.apple_variance = check_number("apple_variance", apple_variance, 0.0)
        if self.apple_variance and not self.apple_reward:
            raise ValueError(f"apple_variance is {apple_variance!r}; it must be 0 where apple_reward is 0")
        self.door_reward = check_number("door_reward", door_reward, 0.0)
        self.limits = (
            check_integer("key_steps", key_steps, 1),
            check_integer("apple_steps", apple_steps, 0),
            check_integer("door_steps", door_steps, 1),
        )
        self.show_key = check_flag("show_key", show_key)
        MiniGridEnv.__init__(
            self,
            MissionSpace(mission_func=mission),
            grid_size=self.room_size,
            max_steps=sum(self.limits),
            render_mode=render_mode,
            tile_size=40,
        )
        self.action_space = Discrete(7)
        self.margin = self.agent_view_size
        self.codes = self._blank_codes()
        self.visible: dict[tuple[int, int, int], NDArray[np.bool_]] = {}
        self.phase, self.phase_step = 0, 0
        self.has_key, self.key_step, self.apples_eaten, self.success = 0, -1, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first room. ``options`` are not used."""
        self.phase, self.phase_step, self.over = 0, 0, False
        self.has_key, self.key_step, self.apples_eaten, self.success = 0, -1, 0, 0
        observation, _ = super().reset(seed=seed, options=options)  # calls _gen_grid
        return observation, self._info(False)

    def _gen_grid(self, width: int, height: int) -> None:
        """The room of the present phase, with the agent in it."""
        size = width - 2
        self.grid = Grid(width, height)
        colour = WALLS[self.phase]
        for place in range(width):
            for x, y in ((place, 0), (place, height - 1), (0, place), (width - 1, place)):
                self.grid.set(x, y, Wall(colour))
        count = 1 + (1 if self.phase == 0 else self.apples if self.phase == 1 else 0)
        spots = self.np_random.permutation(size * size)[:count].tolist()
        self.agent_pos, *others = [(1 + spot % size, 1 + spot // size) for spot in spots]
        self.agent_dir = int(self.np_random.integers(4))
        for x, y in others:
            self.grid.set(x, y, Key(KEY_COLOUR) if self.phase == 0 else Ball("green"))  # type: ignore[no-untyped-call]
        if self.phase == 2:
            side, place = divmod(int(self.np_random.integers(4 * size)), size)
            last = width - 1
            x, y = ((1 + place, 0), (last, 1 + place), (1 + place, last), (0, 1 + place))[side]
            self.grid.set(x, y, Door(KEY_COLOUR, is_locked=True))
        self._encode_grid()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One action, in MiniGrid's order: act, then change the room when its time is over."""
        reward = self._act(self.check_action(action))
        self.step_count += 1
        self.phase_step += 1
        opened = bool(self.success)
        if opened or (self.phase == 2 and self.phase_step == self.limits[2]):
            self.over = True
        elif self.phase_step == self.limits[self.phase]:
            self.phase += 1 if self.phase == 1 or self.limits[1] else 2
            self.phase_step = 0
            self._gen_grid(self.width, self.height)
        return self.gen_obs(), reward, self.over, False, self._info(opened)

    def _act(self, action: int) -> float:
        """The effect of an action in the present room, and its reward."""
        if action in (TURN_LEFT, TURN_RIGHT):
            self.agent_dir = (self.agent_dir + (1 if action == TURN_RIGHT else 3)) % 4
            return 0.0
        x, y = self._ahead()
        thing = self.grid.grid[y * self.width + x]
        if action == FORWARD and (thing is None or thing.type == "ball"):
            self.agent_pos = (x, y)
            if thing is not None:
                self._put(x, y, None)
                self.apples_eaten += 1
                return self._apple()
        elif action == PICKUP and thing is not None and thing.type == "key":
            self._put(x, y, None)
            self.has_key, self.key_step = 1, self.step_count
        elif action == TOGGLE and isinstance(thing, Door) and self.has_key:
            thing.is_locked, thing.is_open = False, True
            self._put(x, y, thing)
            self.success = 1
            return self.door_reward
        return 0.0

    def _ahead(self) -> tuple[int, int]:
        (x, y), (dx, dy) = self.agent_pos, AHEAD[self.agent_dir]
        return x + dx, y + dy

    def _apple(self) -> float:
        """What an apple pays."""
        if not self.apple_variance:
            return self.apple_reward
        chance = self.apple_reward**2 / (self.apple_reward**2 + self.apple_variance)
        return self.apple_reward / chance if self.np_random.random() < chance else 0.0

    def _put(self, x: int, y: int, thing: WorldObj | None) -> None:
        """Changes one cell, in the grid and in its codes."""
        self.grid.set(x, y, thing)
        self.codes[self.margin + x, self.margin + y] = EMPTY_CODE if thing is None else thing.encode()

    def _blank_codes(self) -> NDArray[np.uint8]:
        """Codes of an all-walls world: the room with a margin on every side, as wide as the view."""
        side = self.room_size + 2 * self.margin
        codes = np.empty((side, side, 3), np.uint8)
        codes[:] = WALL_CODE
        return codes

    def _encode_grid(self) -> None:
        """Brings the codes up to date with a new room."""
        inside = slice(self.margin, self.margin + self.room_size)
        self.codes[inside, inside] = self.grid.encode()

    def gen_obs(self) -> dict[str, Any]:
        """MiniGrid's observation, cut out of the codes of the room: the same arrays in 7 instead of 68 us.

        What is visible depends on the place and the direction only, as nothing inside a room hides anything; it is
        computed by MiniGrid once for each. The door stands in a wall, and hides no less than the wall until it opens.
        """
        (x, y), direction = self.agent_pos, self.agent_dir
        if self.success or (self.show_key and self.has_key):
            self.carrying = Key(KEY_COLOUR) if self.show_key and self.has_key else None  # type: ignore[assignment]
            return super().gen_obs()  # type: ignore[no-untyped-call]
        seen = self.visible.get((x, y, direction))
        if seen is None:
            _, mask = self.gen_obs_grid()  # type: ignore[no-untyped-call]
            seen = self.visible[x, y, direction] = mask[:, :, None]
        left, top, right, bottom = self.get_view_exts()  # type: ignore[no-untyped-call]
        m = self.margin
        view = np.rot90(self.codes[m + left : m + right, m + top : m + bottom], k=-(direction + 1))
        image = np.where(seen, view, np.uint8(0))
        image[self.agent_view_size // 2, -1] = EMPTY_CODE
        return {"image": image, "direction": direction, "mission": self.mission}

    def _info(self, opened: bool) -> dict[str, Any]:
        x, y = self.agent_pos
        return {
            "position": x + y * self.room_size,
            "x": x,
            "y": y,
            "phase": ROOMS[self.phase],
            "has_key": self.has_key,
            "key_step": self.key_step,
            "apples_eaten": self.apples_eaten,
            "success": self.success,
            "causal_step": self.key_step if opened else -1,
        }

    def optimal_action(self) -> int:
        """The next action of the shortest way to the key, the nearest apple or the door; 6 (done) where nothing is left."""
        kind, at_goal = (("key", PICKUP), ("ball", FORWARD), ("door", TOGGLE))[self.phase]
        if self.phase == 2 and not self.has_key:
            return DONE
        start = (*self.agent_pos, self.agent_dir)
        first: dict[tuple[int, int, int], int] = {start: DONE}
        queue = [start]
        for x, y, d in queue:  # grows while it is read: breadth first over place and direction
            ahead = (x + AHEAD[d][0], y + AHEAD[d][1])
            thing = self.grid.get(*ahead)
            origin = first[x, y, d]
            if thing is not None and thing.type == kind:
                return at_goal if (x, y, d) == start else origin
            moves = [(TURN_LEFT, (x, y, (d + 3) % 4)), (TURN_RIGHT, (x, y, (d + 1) % 4))]
            moves += [(FORWARD, (*ahead, d))] if thing is None else []
            for action, place in moves:
                if place not in first:
                    first[place] = action if (x, y, d) == start else origin
                    queue.append(place)
        return DONE

    def get_state(self) -> dict[str, Any]:
        """The whole state, as plain values that JSON can hold: counters, agent, grid and the generator's state."""
        return super().get_state() | {"agent_pos": list(self.agent_pos), "grid": self.grid.encode().tolist()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from what ``get_state`` of an environment with the same arguments returned.

        Raises ``ValueError`` if ``state`` has other entries than this environment saves.
        """
        own = {"agent_pos", "grid"}
        if not own <= state.keys():
            raise ValueError(f"state has the entries {sorted(state)}; KeyToDoor needs agent_pos and grid as well")
        super().set_state({name: value for name, value in state.items() if name not in own})
        x, y = state["agent_pos"]
        self.agent_pos = (x, y)
        self.grid, _ = Grid.decode(np.array(state["grid"], np.uint8))
        self._encode_grid()

    def text(self) -> str:
        """The room, the agent and what it has."""
        x, y = self.agent_pos
        time = f"{self.phase_step} of {self.limits[self.phase]}"
        has = "key" if self.has_key else "no key"
        door = ", door open" if self.success else ""
        where = f"{'>v<^'[self.agent_dir]} at ({x}, {y})"
        return f"{ROOMS[self.phase]} room, {time}: {where}\n{has}, {self.apples_eaten} apples{door}"

    def picture(self) -> NDArray[np.uint8]:
        """MiniGrid's picture of the room; below it the time in the three rooms, the key and the apples eaten."""
        room: NDArray[np.uint8] = self.get_full_render(self.highlight, self.tile_size)  # type: ignore[no-untyped-call]
        wide = max(room.shape[1], 200)
        strip = Canvas(58, wide)
        total = max(1, sum(self.limits))
        left = 10.0
        for phase, limit in enumerate(self.limits):
            right = left + (wide - 20) * limit / total
            colours: tuple[Colour, ...] = (WALL, VIOLET, WATER)
            strip.box(left + 1, 10, max(left + 1, right - 1), 16, colours[phase] if phase <= self.phase else FAINT)
            if phase == self.phase:
                x = left + (right - left) * self.phase_step / limit
                strip.polygon([(x, 18), (x + 5, 26), (x - 5, 26)], INK)
            left = right
        if self.has_key:
            strip.disc(18, 41, 7, GOLD)
            strip.disc(18, 41, 3, FLOOR)
            strip.box(24, 39.5, 42, 42.5, GOLD)
            for x in (33, 38):
                strip.box(x, 42, x + 3, 47, GOLD)
        for apple in range(min(self.apples_eaten, 9)):
            x = 60 + 14 * apple
            strip.disc(x, 42, 5.5, GREEN)
            strip.box(x - 0.5, 33.5, x + 1, 38, INK)
        picture = np.empty((room.shape[0] + 58, wide, 3), np.uint8)
        picture[:] = strip.image()[0, 0]
        side = (wide - room.shape[1]) // 2
        picture[: room.shape[0], side : side + room.shape[1]] = room
        picture[room.shape[0] :] = strip.image()
        return picture
