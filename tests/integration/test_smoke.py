from tests.library.models import Author, Book
from trigger_kit.testing import assert_in_sync
def test_insert(db, sql):
    a = Author.objects.create(name="a")
    Book.objects.create(author=a, pages=5, price="3.5", published=True)
    assert_in_sync()
    a.refresh_from_db()
    assert a.num_books == 1
