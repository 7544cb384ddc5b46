#pragma once

#include "AudioCaptureCore.h"
#include "CoreMinimal.h"
#include "HAL/CriticalSection.h"
#include "Misc/ScopeLock.h"

/** The default microphone; its samples, of one channel, wait until they are taken. */
class FVoxkitMicrophone
{
public:
	/** Whether there is one. */
	bool Open()
	{
		Audio::FCaptureDeviceInfo Info;
		if (!Capture.GetCaptureDeviceInfo(Info)) return false;
		Rate = Info.PreferredSampleRate;
		Audio::FOnAudioCaptureFunction Heard = [this](const void* Samples, int32 Frames, int32 Channels, int32, double, bool)
		{
			const FScopeLock Lock(&Mutex);
			for (int32 Frame = 0; Frame < Frames; ++Frame) Waiting.Add(static_cast<const float*>(Samples)[Frame * Channels]);
			if (Waiting.Num() > 20 * Rate) Waiting.Reset(); // nobody has listened for 20 s
		};
		return Capture.OpenAudioCaptureStream(Audio::FAudioCaptureDeviceParams(), MoveTemp(Heard), 1024) && Capture.StartStream();
	}

	~FVoxkitMicrophone()
	{
		if (!Capture.IsStreamOpen()) return;
		Capture.StopStream();
		Capture.CloseStream();
	}

	/** What was heard since the last time. */
	TArray<float> Take()
	{
		const FScopeLock Lock(&Mutex);
		return MoveTemp(Waiting);
	}

	int32 Rate = 0;

private:
	Audio::FAudioCapture Capture;
	FCriticalSection Mutex;
	TArray<float> Waiting;
};
