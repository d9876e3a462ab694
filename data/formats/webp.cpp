// WebP files through libwebp.
#include <webp/decode.h>
#include <webp/demux.h>

#include <limits>
#include <memory>

#include "data/formats/formats.h"
#include "tensor/error.h"

namespace vitrine {

// The first picture of an animation may cover a part of the canvas only; the rest is black, as in
// Pillow. A still image is an animation of one picture.
Image decode_webp(Bytes file, std::string_view name) {
  const WebPData data{file.data(), file.size()};
  const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&data), WebPDemuxDelete);
  VT_CHECK(demuxer != nullptr, "{}: bad WebP file: {} bytes that are damaged or incomplete", name, file.size());
  const std::uint32_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  const std::uint32_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  // A canvas of one colour takes a few bytes, whatever its size.
  check_image_claim(name, height, width, file.size(), std::numeric_limits<std::uint64_t>::max());

  WebPIterator frame = {};
  const bool found = WebPDemuxGetFrame(demuxer.get(), 1, &frame) != 0;
  const std::unique_ptr<WebPIterator, void (*)(WebPIterator*)> release(&frame, WebPDemuxReleaseIterator);
  VT_CHECK(found && frame.complete, "{}: bad WebP file: no complete picture in {} bytes", name, file.size());
  Image image(static_cast<int>(height), static_cast<int>(width));
  const bool lies_inside = frame.x_offset >= 0 && frame.y_offset >= 0 && frame.width > 0 && frame.height > 0 &&
                           frame.width <= image.width - frame.x_offset && frame.height <= image.height - frame.y_offset;
  VT_CHECK(lies_inside, "{}: bad WebP file: a picture of {} x {} at ({}, {}), expected inside {} x {}", name,
           frame.width, frame.height, frame.x_offset, frame.y_offset, width, height);
  std::uint8_t* corner = image.at(frame.y_offset, frame.x_offset);
  const auto room = static_cast<std::size_t>(image.pixels.data() + image.pixels.size() - corner);
  const bool decoded =
      WebPDecodeRGBInto(frame.fragment.bytes, frame.fragment.size, corner, room, 3 * image.width) != nullptr;
  VT_CHECK(decoded, "{}: bad WebP data, {} bytes that are damaged or incomplete", name, frame.fragment.size);
  return image;
}

}  // namespace vitrine
