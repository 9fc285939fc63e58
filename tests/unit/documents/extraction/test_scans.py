"""Scanned pages: what is recognised, and what is said when nothing can be."""

import io
import sys

import numpy as np
import pytest

from affinage.documents.extraction import extract, reader_fingerprint, tesseract
from affinage.documents.extraction.pool import ExtractionPool
from affinage.documents.extraction.skew import angle_of, turned_back
from affinage.errors import DocumentError
from tests.support.files import make_image_pdf, make_pdf
from tests.support.programs import required
from tests.support.scans import DPI, ENGLISH, FRENCH, edit_distance, picture_of, printed, scanned

MAX_ERROR = 0.02
# Of the characters, at 200 dpi.


@pytest.fixture
def recognition() -> None:
    required("tesseract", target="make ocr")
    assert set(tesseract.languages()) == set(tesseract.LANGUAGES)


@pytest.mark.parametrize(
    ("title", "paragraphs", "language", "degrees"),
    [("Règlement intérieur", FRENCH, "fr", 1.3), ("Parking rules", ENGLISH, "en", -2.1), ("Règlement", FRENCH, "fr", 0.0)],
)
def test_scanned_text_is_recognised_with_at_most_two_errors_in_a_hundred_characters(
    recognition, title, paragraphs, language, degrees
) -> None:
    document = extract(scanned([picture_of(printed(title, paragraphs), degrees=degrees)]), path="a.pdf")
    expected = " ".join([title, *paragraphs])
    error = edit_distance(expected, document.text.replace("\n\n", " ")) / len(expected)
    sys.stderr.write(f"{title}, {degrees} degrees: character error {100 * error:.2f} %\n")
    assert error <= MAX_ERROR
    assert (document.ocr_pages, document.language) == ((1,), language)
    assert (document.blocks[0].kind, document.blocks[0].level) == ("heading", 1)
    assert [block.page for block in document.blocks] == [1] * len(document.blocks)


def test_only_the_scanned_pages_of_a_document_are_recognised(recognition) -> None:
    import pypdfium2

    mixed = pypdfium2.PdfDocument.new()
    for data in (make_pdf(["Une page de texte numérique, assez longue."]), scanned([picture_of(printed("Annexe", FRENCH[:1]))])):
        mixed.import_pages(pypdfium2.PdfDocument(data))
    out = io.BytesIO()
    mixed.save(out)
    document = extract(out.getvalue(), path="a.pdf")
    assert document.ocr_pages == (2,)
    assert [(block.page, block.text) for block in document.blocks][:2] == [
        (1, "Une page de texte numérique, assez longue."),
        (2, "Annexe"),
    ]


def test_recognition_works_within_the_limits_of_the_process_that_reads(recognition) -> None:
    data = scanned([picture_of(printed("Annexe", FRENCH[:1]))])
    with ExtractionPool() as pool:
        assert pool.extract(data, path="a.pdf").ocr_pages == (1,)


def test_a_page_that_is_a_picture_or_empty_has_no_text(recognition) -> None:
    from PIL import Image

    noise = np.random.default_rng(3).integers(0, 255, (1200, 900), dtype=np.uint8)
    for data in (make_image_pdf(1), scanned([Image.fromarray(noise)])):
        with pytest.raises(DocumentError) as caught:
            extract(data, path="a.pdf")
        assert caught.value.reason == "no_text"


def test_without_recognition_the_document_fails_and_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(tesseract, "languages", tuple)
    with pytest.raises(DocumentError) as caught:
        extract(scanned([picture_of(printed("Annexe", FRENCH[:1]))]), path="a.pdf")
    assert caught.value.reason == "no_ocr"
    assert "apt-get install tesseract-ocr tesseract-ocr-fra" in caught.value.hint


def test_installing_recognition_is_a_reason_to_try_again(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert reader_fingerprint(None).endswith("ocr=no")
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/tesseract")
    assert reader_fingerprint(None).endswith("ocr=yes")


def test_a_page_that_takes_too_long_is_given_up(recognition, monkeypatch) -> None:
    monkeypatch.setattr(tesseract, "PAGE_SECONDS", 0.01)
    with pytest.raises(DocumentError) as caught:
        extract(scanned([picture_of(printed("Annexe", FRENCH))]), path="a.pdf")
    assert (caught.value.reason, caught.value.retryable) == ("too_slow", True)


@pytest.mark.parametrize("degrees", [-3.4, -1.0, 0.0, 0.5, 2.2])
def test_the_angle_of_a_page_is_told_and_undone(degrees: float) -> None:
    page = np.asarray(picture_of(printed("Règlement", FRENCH), degrees=-degrees))  # Pillow turns against the clock
    assert page.shape[1] == pytest.approx(8.27 * DPI, abs=2)
    assert angle_of(page) == pytest.approx(degrees, abs=0.2)
    assert angle_of(turned_back(page, degrees)) == pytest.approx(0, abs=0.2)


def test_an_empty_page_has_no_angle() -> None:
    assert abs(angle_of(np.full((100, 100), 255, dtype=np.uint8))) <= 4
