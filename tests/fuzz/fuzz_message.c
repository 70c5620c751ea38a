/* SPDX-License-Identifier: MIT */
/*
 * Protobuf bodies of the frames that are no state: the first byte chooses which. What decodes must
 * encode again, within a frame.
 *
 * needs: transport/wire.pb.c engine/move/move.pb.c engine/state/process.pb.c nanopb
 */
#include "engine/move/move.pb.h"
#include "transport/frame.h"
#include "transport/wire.pb.h"

#include <pb_decode.h>
#include <pb_encode.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static union {
	baton_Hello hello;
	baton_MoveOffer offer;
	baton_MoveFile file;
	baton_MoveAnswer answer;
	baton_MoveAbort abort;
	baton_MoveComplete complete;
	baton_MoveDone done;
} message;

static const pb_msgdesc_t *const kinds[] = {
	baton_Hello_fields,      baton_MoveOffer_fields, baton_MoveFile_fields,
	baton_MoveAnswer_fields, baton_MoveAbort_fields, baton_MoveComplete_fields,
	baton_MoveDone_fields,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const pb_msgdesc_t *fields;
	pb_istream_t stream;
	size_t encoded;

	if (size < 1 || size - 1 > FRAME_BODY_MAX)
		return 0;
	fields = kinds[data[0] % (sizeof(kinds) / sizeof(kinds[0]))];
	memset(&message, 0, sizeof(message));
	stream = pb_istream_from_buffer(data + 1, size - 1);
	if (pb_decode(&stream, fields, &message)) {
		if (!pb_get_encoded_size(&encoded, fields, &message) || encoded > FRAME_BODY_MAX)
			abort();
	}
	return 0;
}
