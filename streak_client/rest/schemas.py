"""Bodies of requests, with the names that the original service used, and of problems."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from streak_client import _inputs
from streak_client.models import Activity, StreakUpdate

MOST_ACTIVITIES = 1_000

RequestId = Annotated[str, StringConstraints(min_length=1, max_length=_inputs.MAX_REQUEST_ID_LENGTH)]


class ActivityBody(BaseModel):
    """An activity to count.

    Attributes:
        user_id: Who acted.
        timezone: The IANA zone the user is in; one that does not exist is ignored, however long its name is.
        request_id: The same id never counts twice.
        activity_at: When, with offset, at most 7 days ago; now by default.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    user_id: UUID
    timezone: str | None = None
    request_id: RequestId | None = None
    activity_at: AwareDatetime | None = None

    def activity(self, *, at: datetime | None) -> Activity:
        """Bring it into the client's form.

        Args:
            at: When it happened; None for now.

        Returns:
            The activity.
        """
        return Activity(self.user_id, at, self.timezone, self.request_id)


class BatchBody(BaseModel):
    """Activities to count.

    Attributes:
        activities: At most 1,000; those of one user act in the order given.
    """

    model_config = ConfigDict(extra="forbid")

    activities: Annotated[list[ActivityBody], Field(max_length=MOST_ACTIVITIES)]


class Problem(BaseModel):
    """What went wrong (RFC 9457).

    Attributes:
        type: Always ``about:blank``: the code says more.
        title: The HTTP status in words.
        status: The HTTP status.
        code: The stable code of the error.
        detail: What is wrong, for people.
        field: The field at fault, if one is.
    """

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None


class BatchItem(BaseModel):
    """What became of one activity of a batch: a result or an error.

    Attributes:
        result: The answer.
        error: Why it was not counted.
    """

    result: StreakUpdate | None = None
    error: Problem | None = None
