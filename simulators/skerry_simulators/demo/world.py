"""The devices' world: one application a device shows it images through the device's own local API, as a customer's
would.

The world knows the truth. It writes it to a file that only the simulated labellers read; devices and cloud never see
it.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np

from skerry_agent.client import LocalClient
from skerry_agent.errors import RequestError
from skerry_simulators.demo.data import INPUT, Hand, worn_sensor


class World:
    """Shows images to devices until it is stopped; what it shows can change while it runs."""

    def __init__(self, model: str, sockets: dict[str, Path], oracle: Path, seed: int, every_s: float) -> None:
        self._model = model
        self._sockets = sockets
        self._oracle = oracle.open("a", encoding="utf-8")
        self._seed = seed
        self._every_s = every_s
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._hand: Hand | None = None
        self._sigma = 0.0
        self._applications: list[threading.Thread] = []
        self.shown = 0
        self.refused = 0

    def show(self, hand: Hand, sigma: float) -> None:
        """From now on show images of this hand, through a sensor with this noise."""
        with self._lock:
            self._hand, self._sigma = hand, sigma
        if not self._applications:
            for number, (device, path) in enumerate(sorted(self._sockets.items())):
                thread = threading.Thread(target=self._application, args=(number, path), name=device, daemon=True)
                self._applications.append(thread)
                thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop showing."""
        self._stopped.set()
        for thread in self._applications:
            thread.join()
        self._oracle.close()

    def _application(self, number: int, path: Path) -> None:
        rng = np.random.default_rng((self._seed, number))
        with LocalClient(path) as client:
            while not self._stopped.wait(self._every_s * rng.uniform(0.5, 1.5)):
                with self._lock:
                    hand, sigma = self._hand, self._sigma
                assert hand is not None
                row = int(rng.integers(len(hand.images)))
                image = worn_sensor(hand.images[row : row + 1], sigma, rng)
                try:
                    answer = client.infer(self._model, {INPUT: image.tobytes()})
                except RequestError:
                    with self._lock:
                        self.refused += 1
                    continue
                self._tell(answer.prediction_id, int(hand.labels[row]))

    def _tell(self, prediction: str, label: int) -> None:
        line = json.dumps({"prediction_id": prediction, "label": str(label)})
        with self._lock:
            self._oracle.write(line + "\n")
            self._oracle.flush()
            self.shown += 1

    def examine(self, hand: Hand, sigma: float, seed: int) -> float:
        """Return the share of right answers that the devices give on a hand nobody was ever shown.

        The images are dealt round the devices. They ask for no sampling, so that the examination teaches nobody.
        """
        rng = np.random.default_rng((self._seed, seed))
        images = worn_sensor(hand.images, sigma, rng)
        paths = [path for _, path in sorted(self._sockets.items())]

        def ask(number: int) -> int:
            right = 0
            with LocalClient(paths[number]) as client:
                for row in range(number, len(images), len(paths)):
                    answer = self._ask(client, images[row].tobytes())
                    right += answer == str(int(hand.labels[row]))
            return right

        with ThreadPoolExecutor(max_workers=4) as pool:
            return sum(pool.map(ask, range(len(paths)))) / len(images)

    def _ask(self, client: LocalClient, image: bytes) -> str:
        for _ in range(50):
            try:
                answer = client.infer(self._model, {INPUT: image}, sample=False)
                meaning = client.get(f"/v2/models/{self._model}")["parameters"]
            except RequestError as error:
                if error.status != 503:
                    raise
                time.sleep(0.2)  # the device is changing its model
                continue
            return str(meaning["labels"][int(np.argmax(answer.outputs[meaning["score_output"]]))])
        raise RequestError("the device did not serve for ten seconds", status=503)
