"""An inference over HTTP, from the request taken apart to the answer: on its way it needs no task of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence

from skerry_agent import oip
from skerry_agent.dispatch import Dispatch, Served
from skerry_agent.errors import AgentError, RequestError
from skerry_agent.hooks import Hooks, Prediction
from skerry_agent.http_words import Response, error_response, refusal
from skerry_agent.oip import InferRequest
from skerry_agent.runtime import InferResult, result_of
from skerry_contracts.sample import Kept


def answer(hooks: Hooks, model: str, asked: InferRequest, result: InferResult) -> Response:
    """Return the answer to an inference; the hooks hear of it once it has gone out.

    Raises:
        RequestError: an infinite number is to be written as JSON, or a region was cut short.
    """
    prediction = Prediction(
        id=hooks.next_prediction(model),
        model=model,
        inputs=asked.inputs,
        outputs=result.outputs,
        latency_ms=result.latency_ms,
        keep=asked.keep,
        bundle=result.bundle,
        wanted=Kept.REQUESTED if asked.capture is not None else None,
        capture=asked.capture,
    )
    body, head_bytes = oip.write_infer(asked, model, result.version, result.outputs, {"prediction_id": prediction.id})
    after = functools.partial(hooks.on_prediction, prediction)
    if head_bytes is None:
        return Response(200, body, after=after)
    return Response(200, body, oip.BINARY, ((oip.HEADER_LENGTH, str(head_bytes)),), after)


def failure(model: str, error: AgentError) -> Response:
    """Return what an inference that failed is answered with."""
    return refusal(error) if isinstance(error, RequestError) else error_response(f"{model}: {error}", 500)


class Asking:
    """Who waits for a slot's answer (pending.Waiter) and then tells the connection, once."""

    def __init__(self, hooks: Hooks, model: str, asked: InferRequest, tell: Callable[[Response], None]) -> None:
        self._hooks, self._model, self._asked, self._tell = hooks, model, asked, tell
        self._gone = False

    def begin(self, slot: Dispatch, data: Sequence[bytes], client: Hashable) -> Callable[[], None]:
        """Ask, and return how to give that up.

        Raises:
            RequestError: what the slot refuses at once.
        """
        request = slot.ask(data, self, client=client, wait_s=self._asked.wait_s)

        def give_up() -> None:
            self._gone = True
            slot.withdraw(request)

        return give_up

    def done(self) -> bool:
        """See Waiter."""
        return self._gone

    def set_result(self, result: Served) -> None:
        """See Waiter."""
        try:
            response = answer(self._hooks, self._model, self._asked, result_of(result))
        except RequestError as error:
            response = refusal(error)
        except BaseException:  # the client must not wait for ever
            self._tell(error_response("the agent failed: see its log", 500))
            raise
        self._tell(response)

    def set_exception(self, exception: AgentError) -> None:
        """See Waiter."""
        self._tell(failure(self._model, exception))
