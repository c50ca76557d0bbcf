"""The forum's columns, kept by row triggers as an expert writes them by hand: one UPDATE per touched row.

They keep all that new and edited posts change, of the 24 columns: a trigger per table hands the change on to the next
one. The guards are those of ``by_hand.py``. What deletions, moves and renames change would have triggers of its own,
which a new post does not run; they are left out.
"""

from __future__ import annotations

POSTS = """
CREATE FUNCTION by_hand_post_copies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.user_name := (SELECT username FROM auth_user WHERE id = NEW.user_id);
    NEW.forum_id := (SELECT forum_id FROM forum_topic WHERE id = NEW.topic_id);
    RETURN NEW;
END $$;
CREATE TRIGGER by_hand_post_copies BEFORE INSERT ON forum_post
    FOR EACH ROW EXECUTE FUNCTION by_hand_post_copies();

CREATE FUNCTION by_hand_post_added() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_first boolean := NOT EXISTS (
        SELECT FROM forum_topic AS topic JOIN forum_post AS post ON post.id = topic.first_post_id
        WHERE topic.id = NEW.topic_id AND (post.created, post.id) < (NEW.created, NEW.id)
    );
BEGIN
    UPDATE forum_topic SET
        first_post_id = CASE WHEN is_first THEN NEW.id ELSE first_post_id END,
        on_moderation = CASE WHEN is_first THEN NEW.on_moderation ELSE on_moderation END,
        num_pending = num_pending + NEW.on_moderation::int,
        num_posts = num_posts + 1 - NEW.on_moderation::int,
        last_post_id = CASE
            WHEN NEW.on_moderation OR (last_post_at, last_post_id) > (NEW.created, NEW.id) THEN last_post_id
            ELSE NEW.id
        END,
        last_poster_name = CASE
            WHEN NEW.on_moderation OR (last_post_at, last_post_id) > (NEW.created, NEW.id) THEN last_poster_name
            ELSE NEW.user_name
        END,
        last_post_at = CASE WHEN NEW.on_moderation THEN last_post_at ELSE greatest(last_post_at, NEW.created) END,
        last_activity = CASE
            WHEN NEW.on_moderation THEN last_activity
            ELSE greatest(last_activity, coalesce(NEW.updated, NEW.created))
        END
    WHERE id = NEW.topic_id;
    IF NOT NEW.on_moderation THEN
        UPDATE forum_profile SET num_posts = num_posts + 1, last_post_at = greatest(last_post_at, NEW.created)
        WHERE user_id = NEW.user_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_post_added AFTER INSERT ON forum_post FOR EACH ROW EXECUTE FUNCTION by_hand_post_added();

CREATE FUNCTION by_hand_post_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE forum_topic SET last_activity = (
        SELECT max(coalesce(updated, created)) FROM forum_post WHERE topic_id = NEW.topic_id AND NOT on_moderation
    ) WHERE id = NEW.topic_id;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_post_edited AFTER UPDATE ON forum_post FOR EACH ROW
    WHEN (OLD.updated IS DISTINCT FROM NEW.updated) EXECUTE FUNCTION by_hand_post_edited();
"""

TOPICS = """
CREATE FUNCTION by_hand_topic_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE forum_forum SET
        num_topics = num_topics + OLD.on_moderation::int - NEW.on_moderation::int,
        num_posts = num_posts + NEW.num_posts - OLD.num_posts,
        num_posts_below = num_posts_below + NEW.num_posts - OLD.num_posts,
        last_activity = greatest(last_activity, NEW.last_activity),
        last_post_id = CASE
            WHEN NEW.last_post_id IS NULL THEN last_post_id
            WHEN EXISTS (SELECT FROM forum_topic AS other WHERE other.last_post_id = forum_forum.last_post_id
                         AND (other.last_post_at, other.last_post_id) > (NEW.last_post_at, NEW.last_post_id))
            THEN last_post_id
            ELSE NEW.last_post_id
        END
    WHERE id = NEW.forum_id;
    IF NEW.on_moderation <> OLD.on_moderation THEN
        UPDATE forum_profile SET num_topics = num_topics + OLD.on_moderation::int - NEW.on_moderation::int
        WHERE user_id = NEW.user_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_topic_changed AFTER UPDATE ON forum_topic FOR EACH ROW
    WHEN ((OLD.on_moderation, OLD.num_posts, OLD.last_activity, OLD.last_post_id)
          IS DISTINCT FROM (NEW.on_moderation, NEW.num_posts, NEW.last_activity, NEW.last_post_id))
    EXECUTE FUNCTION by_hand_topic_changed();
"""

FORUMS = """
CREATE FUNCTION by_hand_forum_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE forum_category SET
        num_topics = num_topics + NEW.num_topics - OLD.num_topics,
        num_posts = num_posts + NEW.num_posts - OLD.num_posts,
        last_activity = greatest(last_activity, NEW.last_activity)
    WHERE id = NEW.category_id;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_forum_changed AFTER UPDATE ON forum_forum FOR EACH ROW
    WHEN ((OLD.num_topics, OLD.num_posts, OLD.last_activity)
          IS DISTINCT FROM (NEW.num_topics, NEW.num_posts, NEW.last_activity))
    EXECUTE FUNCTION by_hand_forum_changed();

CREATE FUNCTION by_hand_forum_above() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE forum_forum SET num_posts_below = num_posts_below + NEW.num_posts_below - OLD.num_posts_below
    WHERE id = NEW.parent_id;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_forum_above AFTER UPDATE ON forum_forum FOR EACH ROW
    WHEN (NEW.parent_id IS NOT NULL AND OLD.num_posts_below <> NEW.num_posts_below)
    EXECUTE FUNCTION by_hand_forum_above();
"""

GUARDED = {
    "forum_category": ("num_forums", "num_topics", "num_posts", "last_activity"),
    "forum_forum": (
        "num_child_forums", "num_topics", "num_posts", "num_posts_below", "last_activity", "last_post_id",
    ),
    "forum_topic": (
        "on_moderation", "num_posts", "num_pending", "first_post_id", "last_post_id", "last_post_at", "last_activity",
        "last_poster_name",
    ),
    "forum_post": ("user_name", "forum_id"),
    "forum_profile": ("display_name", "num_topics", "num_posts", "last_post_at"),
}  # fmt: skip


def guard(table: str) -> str:
    """Return the guard of a table: only who writes from inside a trigger changes its columns."""
    kept = " ".join(f"NEW.{column} := OLD.{column};" for column in GUARDED[table])
    return f"""
CREATE FUNCTION by_hand_guard_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        {kept}
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER by_hand_guard BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION by_hand_guard_{table}();
"""


TRIGGERS = "".join([POSTS, TOPICS, FORUMS, *map(guard, GUARDED)])
